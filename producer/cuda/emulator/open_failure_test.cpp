// moetrace_open for a GPU when a CUDA call fails, whichever it is, or the segment can't get its
// name.
#include <filesystem>
#include <fstream>
#include <iterator>

#include "producer/cuda/emulator/faults.hpp"
#include "producer/cuda/test_gpu.hpp"

namespace moetrace::cuda {
namespace {

class OpenFailure : public ::testing::Test {
 protected:
  void SetUp() override {
    moetrace_options_init(&options_, sizeof options_);
    options_.num_layers = 2;
    options_.num_experts = 8;
    options_.top_k = 2;
    options_.ring_mb = 0.0625;
    options_.cuda_device = 0;
    options_.directory = directory_.path().c_str();
  }
  void TearDown() override { emulator::cancel_failure(); }

  // Neither files nor mappings of files that were removed.
  void expect_no_segment() const {
    EXPECT_TRUE(directory_.files().empty());
    std::ifstream maps("/proc/self/maps");
    const std::string text(std::istreambuf_iterator<char>(maps), {});
    EXPECT_EQ(text.find(directory_.path()), std::string::npos) << "a ring is still mapped";
  }

  TestDirectory directory_;
  moetrace_options options_;
};

TEST_F(OpenFailure, IsOneLineAndLeavesNothing) {
  const emulator::Live before = emulator::live();
  int failures = 0;
  for (;; ++failures) {
    SCOPED_TRACE(failures);
    ASSERT_LT(failures, 100) << "open never succeeds";
    char why[256] = "";
    emulator::fail_after(failures);
    moetrace_producer* const producer = moetrace_open(&options_, why, sizeof why);
    if (emulator::cancel_failure()) {
      ASSERT_NE(producer, nullptr) << why;
      moetrace_close(producer);
      break;
    }
    ASSERT_EQ(producer, nullptr) << "although call " << failures << " failed";
    const std::string line = why;
    EXPECT_EQ(line.rfind("cuda hook: ", 0), 0u) << line;
    EXPECT_NE(line.find(": out of memory"), std::string::npos) << line;
    EXPECT_EQ(line.find('\n'), std::string::npos) << line;
    EXPECT_TRUE(emulator::live() == before) << "after call " << failures << " failed";
    expect_no_segment();
    EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "the engine must not find the hook's error";
  }
  // 2 rings with 2 calls each, 2 allocations with 2, a stream, 3 events, a synchronization, and
  // the kernels.
  EXPECT_GT(failures, 13);
}

// So the test above fails if open() runs on after a failure: a later success hides nothing.
TEST_F(OpenFailure, NamesTheFirstFailure) {
  char why[256] = "";
  emulator::fail_after(0);
  EXPECT_EQ(moetrace_open(&options_, why, sizeof why), nullptr);
  EXPECT_STREQ(why, "cuda hook: registering the ring: out of memory");
}

// The segment gets its names after the GPU is open: first .ctl, then .ring.
TEST_F(OpenFailure, OfTheSegmentsNamesLeavesNothing) {
  const emulator::Live before = emulator::live();
  for (const char* file : {".ctl", ".ring"}) {
    SCOPED_TRACE(file);
    emulator::at_next_setup_call([&] {
      for (const std::string& name : directory_.files()) {
        if (name.ends_with(file)) std::filesystem::remove(directory_.file(name));
      }
    });
    char why[512] = "";
    EXPECT_EQ(moetrace_open(&options_, why, sizeof why), nullptr);
    EXPECT_NE(std::string(why).find(std::string(file) + ": can't rename to it: "),
              std::string::npos)
        << why;
    EXPECT_TRUE(emulator::live() == before);
    expect_no_segment();
  }
}

}  // namespace
}  // namespace moetrace::cuda
