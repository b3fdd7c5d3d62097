add_executable(moetrace-producer-test
  announcer_test.cpp capi_fork_test.cpp capi_options_test.cpp capi_test.cpp host_hook_step_test.cpp
  host_hook_test.cpp host_hook_totals_test.cpp host_hook_types_test.cpp request_table_test.cpp
  ring_size_test.cpp settings_test.cpp)
target_link_libraries(moetrace-producer-test PRIVATE moetrace_producer moetrace_flags GTest::gtest_main)
moetrace_share_test_headers(moetrace-producer-test)
gtest_discover_tests(moetrace-producer-test DISCOVERY_TIMEOUT 60)

# An unsanitized program can't use a sanitized library.
find_program(MOETRACE_PKG_CONFIG pkg-config)
if(MOETRACE_PKG_CONFIG AND NOT MOETRACE_SANITIZE)
  add_test(NAME install.programs_outside_the_tree_build
    COMMAND ${CMAKE_COMMAND} -DBUILD=${CMAKE_CURRENT_BINARY_DIR} -DSOURCE=${CMAKE_CURRENT_SOURCE_DIR}
            -DWORK=${CMAKE_CURRENT_BINARY_DIR}/install_test -DLIBDIR=${CMAKE_INSTALL_LIBDIR} -DCC=${CMAKE_C_COMPILER}
            -P ${CMAKE_CURRENT_SOURCE_DIR}/install_test.cmake)
endif()

# For the performance tables: build it in Release and run it by hand. CTest only checks that it
# works.
add_executable(moetrace-hook-bench hook_bench.cpp hook_bench_rivals.cpp)
find_package(nlohmann_json REQUIRED)
moetrace_unoptimized(moetrace-hook-bench)
target_link_libraries(moetrace-hook-bench PRIVATE moetrace_producer moetrace_flags nlohmann_json::nlohmann_json)
add_test(NAME hook_bench.works COMMAND moetrace-hook-bench --quick)

# producer.h must compile as C and as C++.
add_library(moetrace_capi_checks OBJECT capi_compile_check.c capi_compile_check.cpp)
set_target_properties(moetrace_capi_checks PROPERTIES C_STANDARD_REQUIRED ON C_EXTENSIONS OFF)
target_link_libraries(moetrace_capi_checks PRIVATE moetrace_room_producer moetrace_room_shm moetrace_flags)
target_compile_options(moetrace_capi_checks PRIVATE -Wpedantic)

# The models of the CUDA hook's protocol. They get CUDA's names from the emulator's headers.
moetrace_model(producer/cuda/models/published WEAKEN launch_fence block_fence step_fence valid_routes_end look_for_room publish)
moetrace_model(producer/cuda/models/ticket WEAKEN release acquire)
moetrace_model(producer/cuda/models/step_tally WEAKEN own shares load)
foreach(name published ticket step_tally)
  if(TARGET moetrace-${name}-model)
    target_link_libraries(moetrace-${name}-model PRIVATE moetrace_room_producer)
  endif()
endforeach()
if(TARGET moetrace-step_tally-model)
  target_include_directories(moetrace-step_tally-model PRIVATE cuda/emulator/include)
endif()
