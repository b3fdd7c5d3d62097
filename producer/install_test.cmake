# Installs into an empty prefix and builds a C program outside of the tree against it, by find_package and by pkg-config.
#   cmake -DBUILD=… -DSOURCE=… -DWORK=… -DLIBDIR=… -DCC=… -P install_test.cmake
function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE failed OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(failed)
    message(FATAL_ERROR "failed: ${ARGN}\n${output}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE ${WORK})
set(prefix ${WORK}/prefix)
# Only this folder's rules: the rest of the project needs not be built for it.
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})

# Nothing but the C API leaves the library.
run(nm -D --defined-only ${prefix}/${LIBDIR}/libmoetrace.so)
string(REGEX REPLACE "[0-9a-f]+ [A-Za-z] (moetrace_[a-z_]+|_init|_fini)\n" "" others "${output}")
if(NOT others STREQUAL "")
  message(FATAL_ERROR "libmoetrace.so exports more than its C API:\n${others}")
endif()

# By find_package.
file(COPY ${SOURCE}/install_test/ DESTINATION ${WORK}/consumer)
run(${CMAKE_COMMAND} -S ${WORK}/consumer -B ${WORK}/by-cmake -DCMAKE_PREFIX_PATH=${prefix} -DCMAKE_C_COMPILER=${CC})
run(${CMAKE_COMMAND} --build ${WORK}/by-cmake)
run(${WORK}/by-cmake/consumer ${WORK})

# By pkg-config, from a moved tree: nothing in it may remember where it was installed.
file(RENAME ${prefix} ${WORK}/moved)
set(ENV{PKG_CONFIG_PATH} ${WORK}/moved/${LIBDIR}/pkgconfig)
run(pkg-config --cflags --libs moetrace)
separate_arguments(flags UNIX_COMMAND "${output}")
run(${CC} -std=c11 -Wall -Werror ${WORK}/consumer/consumer.c ${flags} -Wl,-rpath,${WORK}/moved/${LIBDIR}
    -o ${WORK}/by-pkg-config)
run(${WORK}/by-pkg-config ${WORK})
file(REMOVE_RECURSE ${WORK})
