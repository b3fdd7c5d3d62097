# Installs into an empty prefix and builds a C program outside of the tree against it, by find_package and by pkg-config.
#   cmake -DBUILD=… -DSOURCE=… -DWORK=… -DLIBDIR=… -DCC=… -P install_test.cmake
function(run)
  cmake_parse_arguments(PARSE_ARGV 0 RUN "" "INPUT" "")
  if(RUN_INPUT)
    set(RUN_INPUT INPUT_FILE ${RUN_INPUT})
  endif()
  execute_process(COMMAND ${RUN_UNPARSED_ARGUMENTS} ${RUN_INPUT}
                  RESULT_VARIABLE failed OUTPUT_VARIABLE output ERROR_VARIABLE error)
  if(failed)
    message(FATAL_ERROR "failed: ${RUN_UNPARSED_ARGUMENTS}\n${output}${error}")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

function(expect_rows program)
  run(${program} INPUT ${WORK}/trace.jsonl)
  if(NOT output STREQUAL "3 rows\n")
    message(FATAL_ERROR "${program} printed: ${output}")
  endif()
endfunction()

file(REMOVE_RECURSE ${WORK})
set(prefix ${WORK}/prefix)
# Only this folder's rules: the rest of the project needs not be built for it.
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})
# A request with three rows.
file(READ ${SOURCE}/testdata/golden/meta.jsonl trace)
file(STRINGS ${SOURCE}/testdata/golden/route.jsonl rows)
list(GET rows 0 row)
file(WRITE ${WORK}/trace.jsonl "${trace}${row}\n${row}\n${row}\n")

# Nothing but the C API leaves the library, and all of it under its version.
run(nm -D --defined-only ${prefix}/${LIBDIR}/libmoetrace_reader.so)
string(REGEX REPLACE "[0-9a-f]+ T moetrace_reader_[a-z_]+@@MOETRACE_READER_0\n" "" others "${output}")
string(REGEX REPLACE "[0-9a-f]+ A MOETRACE_READER_0\n" "" others "${others}")
if(NOT others STREQUAL "")
  message(FATAL_ERROR "libmoetrace_reader.so exports more than its C API:\n${others}")
endif()
run(readelf -d ${prefix}/${LIBDIR}/libmoetrace_reader.so)
if(NOT output MATCHES "SONAME[^\n]*libmoetrace_reader\\.so\\.[0-9]+\\]")
  message(FATAL_ERROR "libmoetrace_reader.so has no version in its SONAME:\n${output}")
endif()

# By find_package. This folder installs the targets; the package's own file, which the producer installs, includes them.
file(COPY ${SOURCE}/install_test/ DESTINATION ${WORK}/consumer)
set(package ${prefix}/${LIBDIR}/cmake/moetrace)
if(NOT EXISTS ${package}/moetrace-reader-targets.cmake)
  message(FATAL_ERROR "${package} has no moetrace-reader-targets.cmake")
endif()
file(WRITE ${package}/moetrace-config.cmake
     "file(GLOB files \${CMAKE_CURRENT_LIST_DIR}/moetrace-*targets.cmake)\nforeach(file \${files})\n  include(\${file})\nendforeach()\n")
run(${CMAKE_COMMAND} -S ${WORK}/consumer -B ${WORK}/by-cmake -DCMAKE_PREFIX_PATH=${prefix} -DCMAKE_C_COMPILER=${CC})
run(${CMAKE_COMMAND} --build ${WORK}/by-cmake)
expect_rows(${WORK}/by-cmake/consumer)

# By pkg-config, from a moved tree: nothing in it may remember where it was installed.
file(RENAME ${prefix} ${WORK}/moved)
set(ENV{PKG_CONFIG_PATH} ${WORK}/moved/${LIBDIR}/pkgconfig)
run(pkg-config --cflags --libs moetrace-reader)
separate_arguments(flags UNIX_COMMAND "${output}")
run(${CC} -std=c11 -Wall -Werror ${WORK}/consumer/consumer.c ${flags} -Wl,-rpath,${WORK}/moved/${LIBDIR}
    -o ${WORK}/by-pkg-config)
expect_rows(${WORK}/by-pkg-config)
file(REMOVE_RECURSE ${WORK})
