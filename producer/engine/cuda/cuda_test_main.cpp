// Tests that need a GPU; exit status 77 says that there is none.
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstdio>

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::fprintf(stderr, "moetrace-engine-cuda-test: there is no GPU here; nothing was tested\n");
    return 77;
  }
  return RUN_ALL_TESTS();
}
