# Installs into an empty prefix and builds C programs outside of the tree against it, by
# find_package and by pkg-config.
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
# Install this folder alone, so that the test does not need the rest of the project to be built.
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})
set(library ${prefix}/${LIBDIR}/libmoetrace.so)

# The library exports the C API alone, and each function of producer.h with a version.
run(nm -D --defined-only --without-symbol-versions ${library})
string(REGEX REPLACE "[0-9a-f]+ [A-Za-z] (moetrace_[a-z_]+|MOETRACE_[0-9.]+|_init|_fini)\n" "" others "${output}")
if(NOT others STREQUAL "")
  message(FATAL_ERROR "libmoetrace.so exports more than its C API:\n${others}")
endif()
run(objdump -T ${library})
set(symbols "${output}")
file(READ ${SOURCE}/producer.h header)
string(REGEX MATCHALL "MOETRACE_API [a-z0-9_ *]*moetrace_[a-z_]+\\(" declarations "${header}")
list(LENGTH declarations count)
if(count LESS 22)
  message(FATAL_ERROR "found only ${count} functions in producer.h")
endif()
foreach(declaration IN LISTS declarations)
  string(REGEX MATCH "(moetrace_[a-z_]+)\\($" unused "${declaration}")
  set(function ${CMAKE_MATCH_1})
  if(NOT symbols MATCHES "MOETRACE_0\\.[0-9]+ +${function}\n")
    message(FATAL_ERROR "${function} is exported without a version; add it to libmoetrace.map")
  endif()
endforeach()

# By find_package, with the old paths of the headers as well as the new ones.
file(COPY ${SOURCE}/install_test/ DESTINATION ${WORK}/consumer)
run(${CMAKE_COMMAND} -S ${WORK}/consumer -B ${WORK}/by-cmake -DCMAKE_PREFIX_PATH=${prefix} -DCMAKE_C_COMPILER=${CC})
run(${CMAKE_COMMAND} --build ${WORK}/by-cmake)
run(${WORK}/by-cmake/consumer ${WORK})
run(${WORK}/by-cmake/old_consumer ${WORK})
# A part that is not installed is named.
execute_process(COMMAND ${CMAKE_COMMAND} -S ${WORK}/consumer -B ${WORK}/no-part -DCMAKE_PREFIX_PATH=${prefix}
                        -DCMAKE_C_COMPILER=${CC} -DPART=nonsense
                RESULT_VARIABLE failed OUTPUT_VARIABLE output ERROR_VARIABLE output)
string(REGEX REPLACE "[ \n]+" " " output "${output}")
if(NOT failed OR NOT output MATCHES "installed without its part 'nonsense'")
  message(FATAL_ERROR "find_package found a part that does not exist:\n${output}")
endif()

# By pkg-config, from a moved tree: no installed file may remember where it was installed.
file(RENAME ${prefix} ${WORK}/moved)
set(libdir ${WORK}/moved/${LIBDIR})
set(ENV{PKG_CONFIG_PATH} ${libdir}/pkgconfig)
run(pkg-config --cflags --libs moetrace)
separate_arguments(flags UNIX_COMMAND "${output}")
foreach(program consumer old_consumer)
  run(${CC} -std=c11 -Wall -Werror ${WORK}/consumer/${program}.c ${flags} -Wl,-rpath,${libdir} -o ${WORK}/by-pkg-config)
  run(${WORK}/by-pkg-config ${WORK})
endforeach()

# A program that was linked when libmoetrace.so had no versions still loads. The library to link
# with has only the names: of each function in producer.h, without a version.
set(names "")
foreach(declaration IN LISTS declarations)
  string(REGEX MATCH "(moetrace_[a-z_]+)\\($" unused "${declaration}")
  string(APPEND names "void ${CMAKE_MATCH_1}(void) {}\n")
endforeach()
file(WRITE ${WORK}/unversioned/names.c "${names}")
file(GLOB soname RELATIVE ${libdir} ${libdir}/libmoetrace.so.[0-9])
run(${CC} -shared -fPIC -Wl,-soname,${soname} ${WORK}/unversioned/names.c -o ${WORK}/unversioned/libmoetrace.so)
run(pkg-config --cflags moetrace)
separate_arguments(flags UNIX_COMMAND "${output}")
run(${CC} -std=c11 ${WORK}/consumer/consumer.c ${flags} -L${WORK}/unversioned -lmoetrace -Wl,-rpath,${libdir}
    -o ${WORK}/unversioned/consumer)
run(objdump -T ${WORK}/unversioned/consumer)
if(output MATCHES "MOETRACE_")
  message(FATAL_ERROR "the program to test unversioned references has versions:\n${output}")
endif()
run(${WORK}/unversioned/consumer ${WORK})
file(REMOVE_RECURSE ${WORK})
