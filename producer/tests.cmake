add_executable(moetrace-producer-test announcer_test.cpp host_hook_test.cpp layer_mask_test.cpp producer_test.cpp
                                      request_book_test.cpp ring_size_test.cpp settings_test.cpp)
target_link_libraries(moetrace-producer-test PRIVATE moetrace_producer moetrace_flags GTest::gtest_main)
gtest_discover_tests(moetrace-producer-test DISCOVERY_TIMEOUT 60)

# A sanitized library can't be used by a program that isn't.
find_program(MOETRACE_PKG_CONFIG pkg-config)
if(MOETRACE_PKG_CONFIG AND NOT MOETRACE_SANITIZE)
  add_test(NAME install.a_stranger_builds_against_it
    COMMAND ${CMAKE_COMMAND} -DBUILD=${CMAKE_CURRENT_BINARY_DIR} -DSOURCE=${CMAKE_CURRENT_SOURCE_DIR}
            -DWORK=${CMAKE_CURRENT_BINARY_DIR}/install_test -DLIBDIR=${CMAKE_INSTALL_LIBDIR} -DCC=${CMAKE_C_COMPILER}
            -P ${CMAKE_CURRENT_SOURCE_DIR}/install_test.cmake)
endif()

# The table of the README: build in Release and run it by hand; CTest only sees that it works.
add_executable(moetrace-hook-bench hook_bench.cpp hook_bench_rivals.cpp)
find_package(nlohmann_json REQUIRED)
target_link_libraries(moetrace-hook-bench PRIVATE moetrace_producer moetrace_flags nlohmann_json::nlohmann_json)
add_test(NAME hook_bench.works COMMAND moetrace-hook-bench --quick)
