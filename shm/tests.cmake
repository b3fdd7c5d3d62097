add_executable(moetrace-shm-test
  abandoned_files_test.cpp
  abi_golden_test.cpp
  collector_segment_test.cpp
  control_words_test.cpp
  cost_test.cpp
  counts_words_test.cpp
  cut_guard_test.cpp
  file_lock_test.cpp
  header_check_test.cpp
  layer_mask_test.cpp
  layer_table_test.cpp
  ledger_test.cpp
  producer_segment_test.cpp
  ring_access_test.cpp
  ring_test.cpp
  ring_use_test.cpp
  route_layout_test.cpp
  segment_map_test.cpp
  segment_names_test.cpp
  segment_race_test.cpp
  segment_sizes_test.cpp
  session_claim_test.cpp
  shared_lines_test.cpp
  snapshot_test.cpp
  system_error_test.cpp)
target_link_libraries(moetrace-shm-test PRIVATE moetrace_shm moetrace_flags GTest::gtest_main)
target_compile_definitions(moetrace-shm-test PRIVATE MOETRACE_TESTDATA="${CMAKE_CURRENT_SOURCE_DIR}/testdata")
moetrace_share_test_headers(moetrace-shm-test)
gtest_discover_tests(moetrace-shm-test DISCOVERY_TIMEOUT 60)

# A real segment between two processes. The writer is a program of its own, so that the test can kill it.
add_executable(moetrace-stress-writer stress_writer.cpp)
target_link_libraries(moetrace-stress-writer PRIVATE moetrace_shm moetrace_flags)
add_executable(moetrace-stress-test stress_test.cpp)
target_link_libraries(moetrace-stress-test PRIVATE moetrace_shm moetrace_flags GTest::gtest_main)
target_compile_definitions(moetrace-stress-test PRIVATE STRESS_WRITER="$<TARGET_FILE:moetrace-stress-writer>")
add_dependencies(moetrace-stress-test moetrace-stress-writer)
moetrace_share_test_headers(moetrace-stress-test)
gtest_discover_tests(moetrace-stress-test DISCOVERY_TIMEOUT 60)

include(models/models.cmake)
moetrace_model(shm/models/ring WEAKEN commit upper_at publish room)
moetrace_model(shm/models/lines WEAKEN write_word write_number read_number read_word)
moetrace_model(shm/models/words WEAKEN write_word write_version read_version read_word)

# abi.h compiles as C11, C++20 and CUDA.
add_library(moetrace_abi_c11 OBJECT abi_compile_check.c)
set_target_properties(moetrace_abi_c11 PROPERTIES C_STANDARD 11 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF)
target_link_libraries(moetrace_abi_c11 PRIVATE moetrace_room_shm moetrace_flags)
target_compile_options(moetrace_abi_c11 PRIVATE -Wpedantic)
add_library(moetrace_abi_cxx20 OBJECT abi_compile_check.cpp)
target_link_libraries(moetrace_abi_cxx20 PRIVATE moetrace_room_shm moetrace_flags)
target_compile_options(moetrace_abi_cxx20 PRIVATE -Wpedantic)
find_program(MOETRACE_NVCC nvcc HINTS /usr/local/cuda/bin)
if(MOETRACE_NVCC)
  # Calls nvcc directly, so that the rest of the build does not need the CUDA language.
  add_custom_command(OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/abi_compile_check.o
    COMMAND ${MOETRACE_NVCC} -std=c++17 -c -I${PROJECT_BINARY_DIR}/rooms/shm ${CMAKE_CURRENT_SOURCE_DIR}/abi_compile_check.cu
            -o ${CMAKE_CURRENT_BINARY_DIR}/abi_compile_check.o
    DEPENDS abi_compile_check.cu abi.h abi_layout.h COMMENT "Compiling abi.h as CUDA")
  add_custom_target(moetrace_abi_cuda ALL DEPENDS ${CMAKE_CURRENT_BINARY_DIR}/abi_compile_check.o)
endif()
