# The libtorch operators: libmoetrace_torch.so, for any program that has libtorch.
include(torch/libtorch.cmake)
add_library(moetrace_torch SHARED torch/torch_op.cpp)
# libtorch's headers take longer to read than all the rest: once, for all that include them (REUSE_FROM).
set_target_properties(moetrace_torch PROPERTIES DEFINE_SYMBOL "")
target_precompile_headers(moetrace_torch PRIVATE <ATen/ATen.h> <torch/library.h>)
target_link_libraries(moetrace_torch PRIVATE moetrace_flags moetrace_libtorch moetrace_producer)
if(MOETRACE_CUDA AND MOETRACE_LIB_c10_cuda)
  target_sources(moetrace_torch PRIVATE torch/torch_op_cuda.cpp)
  target_include_directories(moetrace_torch SYSTEM PRIVATE ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(moetrace_torch PRIVATE ${MOETRACE_LIB_c10_cuda})
endif()

if(MOETRACE_TESTS)
  add_executable(moetrace-torch-op-test torch/torch_op_test.cpp)
  # As the library's code, for its precompiled headers.
  target_compile_options(moetrace-torch-op-test PRIVATE -fPIC)
  target_precompile_headers(moetrace-torch-op-test REUSE_FROM moetrace_torch)
  target_link_libraries(moetrace-torch-op-test PRIVATE moetrace_flags moetrace_torch moetrace_producer moetrace_libtorch
                        GTest::gtest_main)
  gtest_discover_tests(moetrace-torch-op-test DISCOVERY_TIMEOUT 60)
endif()
