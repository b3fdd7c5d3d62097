# The engine's CUDA side: the kernels, the model that uses them, and programs that run without
# libtorch.
find_package(CUDAToolkit 12.4 REQUIRED)
add_library(moetrace_engine_cuda STATIC
  cuda/cuda_model.cpp cuda/cuda_tracer.cpp cuda/decode_attention.cu cuda/decode_graph.cpp
  cuda/dense_gemv.cu cuda/device_weights.cpp cuda/forward_pass.cpp cuda/fused_up.cu
  cuda/grouped_matmul.cu cuda/mlp_down.cu cuda/prefill_attention.cu cuda/row_kernels.cu
  cuda/workspace.cpp)
# Some files have local helpers of the same name.
set_target_properties(moetrace_engine_cuda PROPERTIES UNITY_BUILD OFF)
target_link_libraries(moetrace_engine_cuda
  PUBLIC moetrace_engine_core CUDA::cublas CUDA::cudart_static
  PRIVATE moetrace_flags)

add_executable(moetrace-decode-bench cuda/decode_bench.cpp cuda/json_lines_hook.cpp)
target_link_libraries(moetrace-decode-bench PRIVATE moetrace_engine_cuda moetrace_flags CLI11::CLI11)
# As moetrace-engine.
target_compile_options(moetrace-decode-bench PRIVATE $<IF:$<CONFIG:Release>,-O1,-O0>)

if(MOETRACE_TESTS)
  add_executable(moetrace-engine-cuda-test
    cuda/cuda_model_test.cpp ../producer/cuda/cuda_test_main.cpp cuda/kernels_test.cpp)
  target_compile_definitions(moetrace-engine-cuda-test PRIVATE
    MOETRACE_ENGINE_TESTDATA="${CMAKE_CURRENT_SOURCE_DIR}/testdata")
  target_link_libraries(moetrace-engine-cuda-test
    PRIVATE moetrace_engine_cuda moetrace_flags GTest::gtest)
  target_compile_options(moetrace-engine-cuda-test PRIVATE $<IF:$<CONFIG:Release>,-O1,-O0>)
  # Without a GPU the program exits with 77, and CTest counts it as skipped.
  add_test(NAME gpu.engine COMMAND moetrace-engine-cuda-test)
  set_tests_properties(gpu.engine PROPERTIES LABELS gpu SKIP_RETURN_CODE 77 TIMEOUT 300)
  # Needs no GPU.
  add_test(NAME moetrace-decode-bench-usage COMMAND moetrace-decode-bench --repeats many)
  set_tests_properties(moetrace-decode-bench-usage PROPERTIES PASS_REGULAR_EXPRESSION
    "^moetrace-decode-bench: --repeats: 'many': expected an integer >= 1; see moetrace-decode-bench --help\n$")
endif()
