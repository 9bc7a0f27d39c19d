# One interface library holds every flag; rooms link it privately.
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
	set(CMAKE_BUILD_TYPE RelWithDebInfo)
endif()

add_library(project_flags INTERFACE)
target_include_directories(project_flags INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
target_compile_definitions(project_flags INTERFACE _GNU_SOURCE COMFYMON_VERSION="${PROJECT_VERSION}")
target_compile_options(project_flags INTERFACE
	-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition
	-Wwrite-strings -Wpointer-arith -Wformat=2 -Wundef -Wvla -Wimplicit-fallthrough
	-Wdouble-promotion -Wunused-result -fno-common -fvisibility=hidden -fstack-protector-strong
	-fno-omit-frame-pointer)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
	target_compile_options(project_flags INTERFACE -Wlogical-op -Wduplicated-cond -Wjump-misses-init)
endif()
if(WERROR)
	target_compile_options(project_flags INTERFACE -Werror)
endif()
if(SANITIZE)
	target_compile_options(project_flags INTERFACE -fsanitize=${SANITIZE} -fno-sanitize-recover=all)
	# The runtime of UBSan beside ASan's writes to standard error alone, where a test may not look; a
	# trap is a SIGILL, which ASan reports like everything else, with its line.
	if(SANITIZE MATCHES undefined)
		target_compile_options(project_flags INTERFACE -fsanitize-undefined-trap-on-error)
	endif()
	target_link_options(project_flags INTERFACE -fsanitize=${SANITIZE})
elseif(CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo" OR CMAKE_BUILD_TYPE STREQUAL "Release")
	target_compile_options(project_flags INTERFACE -D_FORTIFY_SOURCE=2)
	target_link_options(project_flags INTERFACE -Wl,-z,relro,-z,now)
endif()
if(FAULT)
	target_compile_definitions(project_flags INTERFACE COMFYMON_FAULT=1)
endif()
if(BUILD_FUZZ)
	target_compile_options(project_flags INTERFACE -fsanitize=fuzzer-no-link,address,undefined)
	target_link_options(project_flags INTERFACE -fsanitize=address,undefined)
endif()
