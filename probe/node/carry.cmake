# Puts into the folder NODE: FILES, PROGRAM, in lib/ every shared library that PROGRAM needs, or loads
# (LOADED), except libc's own, and in licenses/ what their packages say about copying them. Run by cmake -P.
#
# The folder may be in use by a running agent, or be seen by a starting ComfyUI: a file that changed is
# renamed over the old one, never written into it.
cmake_minimum_required(VERSION 3.25)

function(put source target)
	if(EXISTS ${target})
		file(SHA256 ${source} new)
		file(SHA256 ${target} old)
		if(new STREQUAL old)
			return()
		endif()
	endif()
	file(COPY_FILE ${source} ${target}.new)
	file(RENAME ${target}.new ${target})
endfunction()

# The package's own words, and the common licences that they refer to.
function(put_license library)
	foreach(path ${library} /usr${library})
		execute_process(COMMAND dpkg-query -S ${path} OUTPUT_VARIABLE owner ERROR_QUIET
			OUTPUT_STRIP_TRAILING_WHITESPACE)
		if(owner MATCHES "^([^:]+):")
			set(package ${CMAKE_MATCH_1})
			break()
		endif()
	endforeach()
	if(NOT package OR NOT EXISTS /usr/share/doc/${package}/copyright)
		message(FATAL_ERROR "${library}: no copyright file of its Debian package")
	endif()
	file(REAL_PATH /usr/share/doc/${package}/copyright words)
	put(${words} ${NODE}/licenses/${package}.txt)
	file(STRINGS ${words} lines REGEX "/usr/share/common-licenses/")
	foreach(line ${lines})
		if(line MATCHES "/usr/share/common-licenses/([A-Za-z]+-?[0-9.]*[0-9])" AND
			EXISTS /usr/share/common-licenses/${CMAKE_MATCH_1})
			set(name ${CMAKE_MATCH_1})
			file(REAL_PATH /usr/share/common-licenses/${name} words)
			put(${words} ${NODE}/licenses/common/${name}.txt)
		endif()
	endforeach()
endfunction()

file(MAKE_DIRECTORY ${NODE})
file(REMOVE_RECURSE ${NODE}/__pycache__)
foreach(file ${FILES})
	get_filename_component(name ${file} NAME)
	put(${file} ${NODE}/${name})
endforeach()
if(NOT LIBRARIES)
	put(${PROGRAM} ${NODE}/comfymon)
	return()
endif()

# Libraries first: a program must never be newer than what it needs.
file(MAKE_DIRECTORY ${NODE}/lib ${NODE}/licenses/common)
file(GET_RUNTIME_DEPENDENCIES EXECUTABLES ${PROGRAM} LIBRARIES ${LOADED}
	RESOLVED_DEPENDENCIES_VAR libraries UNRESOLVED_DEPENDENCIES_VAR missing
	PRE_EXCLUDE_REGEXES "^lib(c|m|pthread|dl|rt|resolv|util|anl|mvec)\\.so" "^ld-linux" "^linux-vdso")
if(missing)
	message(FATAL_ERROR "${PROGRAM} needs what is not here: ${missing}")
endif()
set(carried "")
foreach(library ${libraries} ${LOADED})
	get_filename_component(soname ${library} NAME)
	file(REAL_PATH ${library} real)
	put(${real} ${NODE}/lib/${soname})
	put_license(${library})
	list(APPEND carried ${NODE}/lib/${soname})
endforeach()
file(GLOB there ${NODE}/lib/*)
foreach(file ${there})
	if(NOT file IN_LIST carried)
		file(REMOVE ${file})
	endif()
endforeach()
put(${PROGRAM} ${NODE}/comfymon)
