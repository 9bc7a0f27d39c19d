# python_launcher(INTERPRETER NAME OUT): OUT is INTERPRETER itself; in a build with sanitizers it is a
# script build/<preset>/python/NAME that starts it with the sanitizer's runtime, which must be in the
# process before the extension is.
function(python_launcher interpreter name out)
	set(${out} ${interpreter} PARENT_SCOPE)
	if(NOT SANITIZE)
		return()
	endif()
	set(runtime libtsan.so)
	if(SANITIZE MATCHES address)
		set(runtime libasan.so)
	endif()
	execute_process(COMMAND ${CMAKE_C_COMPILER} -print-file-name=${runtime} OUTPUT_VARIABLE runtime
		OUTPUT_STRIP_TRAILING_WHITESPACE)
	set(launcher ${CMAKE_BINARY_DIR}/python/${name})
	# CPython keeps much of its memory to the end: no leaks are sought. With malloc behind every
	# object the sanitizer sees an object that is used after its end. Tests send it a SIGSEGV.
	file(WRITE ${launcher} "#!/bin/sh
LD_PRELOAD=${runtime} PYTHONMALLOC=malloc \\
	ASAN_OPTIONS=\"\${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0:handle_segv=0\" \\
	TSAN_OPTIONS=\"\${TSAN_OPTIONS:+$TSAN_OPTIONS:}handle_segv=0:die_after_fork=0\" \\
	exec ${interpreter} \"$@\"
")
	file(CHMOD ${launcher} PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
	set(${out} ${launcher} PARENT_SCOPE)
endfunction()
