# Tests and benchmarks that need a GPU to run, but not to compile.
# cuda_limits_test.cpp comes last, because its last test breaks the CUDA context.
add_executable(moetrace-cuda-hook-test cuda/cuda_test_main.cpp cuda/cuda_record_test.cpp cuda/cuda_step_test.cpp
                                       cuda/cuda_capi_test.cpp cuda/cuda_deferred_test.cpp
                                       cuda/cuda_limits_test.cpp)
target_link_libraries(moetrace-cuda-hook-test PRIVATE moetrace_producer moetrace_flags CUDA::cudart_static GTest::gtest)
moetrace_unoptimized(moetrace-cuda-hook-test)
# Without a GPU the program exits with 77, and CTest counts it as skipped.
add_test(NAME gpu.hook COMMAND moetrace-cuda-hook-test)
set_tests_properties(gpu.hook PROPERTIES LABELS gpu SKIP_RETURN_CODE 77)

add_executable(moetrace-cuda-hook-bench cuda/cuda_hook_bench.cpp cuda/bench_layer.cu)
target_link_libraries(moetrace-cuda-hook-bench PRIVATE moetrace_producer moetrace_flags CUDA::cudart_static)

# A producer under load and its checker, in separate processes.
add_executable(moetrace-cuda-load cuda/cuda_load.cpp cuda/test_routing.cu)
target_link_libraries(moetrace-cuda-load PRIVATE moetrace_producer moetrace_flags CUDA::cudart_static)
add_executable(moetrace-cuda-load-check cuda/cuda_load_check.cpp)
target_include_directories(moetrace-cuda-load-check SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
target_link_libraries(moetrace-cuda-load-check PRIVATE moetrace_room_producer moetrace_shm moetrace_flags)
