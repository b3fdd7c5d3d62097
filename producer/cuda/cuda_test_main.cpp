// main() of the tests that need a GPU; exit code 77: found none.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdio>

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::fprintf(stderr, "%s: found no GPU; nothing was tested\n", argv[0]);
    return 77;
  }
  return RUN_ALL_TESTS();
}
