add_executable(moetrace-shm-test abi_golden_test.cpp header_check_test.cpp ring_test.cpp segment_test.cpp
                                 segment_files_test.cpp segment_race_test.cpp session_claim_test.cpp
                                 shared_lines_test.cpp)
target_link_libraries(moetrace-shm-test PRIVATE moetrace_shm moetrace_flags GTest::gtest_main)
target_compile_definitions(moetrace-shm-test PRIVATE MOETRACE_TESTDATA="${CMAKE_CURRENT_SOURCE_DIR}/testdata")
gtest_discover_tests(moetrace-shm-test DISCOVERY_TIMEOUT 60)

# A real segment between two processes; the writer is a program of its own, so that it can be killed.
add_executable(moetrace-stress-writer stress_writer.cpp)
target_link_libraries(moetrace-stress-writer PRIVATE moetrace_shm moetrace_flags)
add_executable(moetrace-stress-test stress_test.cpp)
target_link_libraries(moetrace-stress-test PRIVATE moetrace_shm moetrace_flags GTest::gtest_main)
target_compile_definitions(moetrace-stress-test PRIVATE STRESS_WRITER="$<TARGET_FILE:moetrace-stress-writer>")
add_dependencies(moetrace-stress-test moetrace-stress-writer)
gtest_discover_tests(moetrace-stress-test DISCOVERY_TIMEOUT 60)

# All interleavings of the real templates, under relacy (Debian: relacy-dev, header only). Relacy runs its threads as contexts of
# one thread, which the sanitizers can't follow. Each planted race weakens one memory order and must be found.
find_path(RELACY_INCLUDE_DIR relacy/relacy.hpp)
if(RELACY_INCLUDE_DIR AND NOT MOETRACE_SANITIZE)
  foreach(model published ticket account ring lines words)
    add_executable(moetrace-${model}-model ${model}_model.cpp)
    target_include_directories(moetrace-${model}-model SYSTEM PRIVATE ${RELACY_INCLUDE_DIR})
    target_link_libraries(moetrace-${model}-model PRIVATE moetrace_flags)
    target_compile_options(moetrace-${model}-model PRIVATE -Wno-shadow)
    add_test(NAME model.${model} COMMAND moetrace-${model}-model)
  endforeach()
  # What is CUDA elsewhere.
  target_include_directories(moetrace-account-model PRIVATE ${PROJECT_SOURCE_DIR}/producer/cuda/on_cpu/include)
  foreach(planted published:launch_fence published:block_fence published:step_fence published:valid_routes_end
                  published:look_for_room published:publish ticket:release ticket:acquire account:own account:shares account:load ring:commit ring:upper_at ring:publish
                  ring:room lines:write_word lines:write_number lines:read_number lines:read_word words:write_word
                  words:write_version words:read_version words:read_word)
    string(REPLACE ":" ";" parts ${planted})
    list(GET parts 0 model)
    list(GET parts 1 weakened)
    add_test(NAME model.${model}.finds_weak_${weakened} COMMAND moetrace-${model}-model --weaken ${weakened})
  endforeach()
else()
  message(STATUS "relacy not found, or a sanitizer is on: the model tests are left out")
endif()

# abi.h is one text for three languages.
add_library(moetrace_abi_c11 OBJECT abi_compile_check.c)
set_target_properties(moetrace_abi_c11 PROPERTIES C_STANDARD 11 C_STANDARD_REQUIRED ON C_EXTENSIONS OFF)
target_link_libraries(moetrace_abi_c11 PRIVATE moetrace_flags)
target_compile_options(moetrace_abi_c11 PRIVATE -Wpedantic)
add_library(moetrace_abi_cxx20 OBJECT abi_compile_check.cpp)
target_link_libraries(moetrace_abi_cxx20 PRIVATE moetrace_flags)
target_compile_options(moetrace_abi_cxx20 PRIVATE -Wpedantic)
find_program(MOETRACE_NVCC nvcc HINTS /usr/local/cuda/bin)
if(MOETRACE_NVCC)
  # Called by hand, so that the CUDA language, and a working compiler for it, is not needed for everything else.
  add_custom_command(OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/abi_compile_check.o
    COMMAND ${MOETRACE_NVCC} -std=c++17 -c -I${PROJECT_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR}/abi_compile_check.cu
            -o ${CMAKE_CURRENT_BINARY_DIR}/abi_compile_check.o
    DEPENDS abi_compile_check.cu abi.h COMMENT "Compiling abi.h as CUDA")
  add_custom_target(moetrace_abi_cuda ALL DEPENDS ${CMAKE_CURRENT_BINARY_DIR}/abi_compile_check.o)
endif()
