# room(NAME DEPS a b LIBS x y): the .c files of the current folder become the
# static library room_NAME. DEPS are rooms (public), LIBS are third party
# (private: another room that includes their headers does not compile).
# A folder without sources yields an interface library, so that rooms may be
# named before they are built.
function(room name)
	cmake_parse_arguments(R "" "" "DEPS;LIBS;EXCLUDE" ${ARGN})
	file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.c)
	foreach(skip ${R_EXCLUDE})
		list(REMOVE_ITEM sources ${CMAKE_CURRENT_SOURCE_DIR}/${skip})
	endforeach()
	list(TRANSFORM R_DEPS PREPEND room_)
	if(sources)
		add_library(room_${name} STATIC ${sources})
		target_link_libraries(room_${name} PUBLIC ${R_DEPS} PRIVATE project_flags ${R_LIBS})
	else()
		add_library(room_${name} INTERFACE)
		target_link_libraries(room_${name} INTERFACE ${R_DEPS})
	endif()
endfunction()

# c_test(NAME SOURCE LIBS...): one test program and its ctest entry.
function(c_test name source)
	add_executable(${name} ${source})
	target_link_libraries(${name} PRIVATE project_flags ${ARGN})
	set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
	add_test(NAME ${name} COMMAND ${name})
	set_tests_properties(${name} PROPERTIES TIMEOUT 300)
endfunction()

# py_test(NAME SCRIPT [LABELS ..] [TIMEOUT n] [PYTHON p]): a Python test against the built programs;
# PYTHON is the interpreter of one that imports the extension itself.
function(py_test name script)
	cmake_parse_arguments(T "" "TIMEOUT;PYTHON" "LABELS;ENV" ${ARGN})
	if(NOT T_TIMEOUT)
		set(T_TIMEOUT 120)
	endif()
	if(NOT T_PYTHON)
		set(T_PYTHON ${Python3_EXECUTABLE})
	endif()
	if(SANITIZE) # several times slower
		math(EXPR T_TIMEOUT "${T_TIMEOUT} * 3")
	endif()
	add_test(NAME ${name} COMMAND ${under_sanitizer} ${T_PYTHON} ${script})
	set_tests_properties(${name} PROPERTIES TIMEOUT ${T_TIMEOUT} LABELS "${T_LABELS}" ENVIRONMENT
		"COMFYMON_BIN=${CMAKE_BINARY_DIR}/bin/comfymon;COMFYMON_BUILD=${CMAKE_BINARY_DIR};COMFYMON_ROOT=${PROJECT_SOURCE_DIR};PYTHONDONTWRITEBYTECODE=1;${T_ENV}")
endfunction()
