// The emulated device obeys streams, events, barriers and atomics, and promises no other order:
// otherwise the hook's tests on it would miss faults.
#include <gtest/gtest.h>

#include <set>

#include "producer/cuda/kernel_launch.cuh"

namespace moetrace::cuda {

inline std::uint64_t* shared_words() {
  extern __shared__ std::uint64_t dynamic_shared_words[];
  return dynamic_shared_words;
}

namespace {

constexpr int kTries = 200;

class Emulator : public ::testing::Test {
 protected:
  void SetUp() override {
    for (cudaStream_t* stream : {&one_, &two_})
      ASSERT_EQ(cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), cudaSuccess);
  }
  void TearDown() override {
    cudaDeviceSynchronize();
    cudaStreamDestroy(one_);
    cudaStreamDestroy(two_);
  }
  template <class... Arguments>
  void launch(void (*kernel)(Arguments...), unsigned blocks, unsigned threads, cudaStream_t stream,
              Arguments... arguments) {
    ASSERT_EQ(launch_kernel(kernel, blocks, threads, 0, stream, arguments...), cudaSuccess);
  }

  cudaStream_t one_ = nullptr, two_ = nullptr;
  cudaEvent_t event_ = nullptr;
};

__global__ void set(unsigned* word, unsigned value) {
  if (threadIdx.x == 0) *word = value;
}
__global__ void copy(unsigned* to, unsigned* from) {
  *to = *from;
}

TEST_F(Emulator, AStreamIsInOrderAndTwoStreamsAreNot) {
  unsigned word = 0, seen = 0;
  std::set<unsigned> found;
  for (int n = 0; n < kTries; ++n) {
    launch(set, 1, 1, one_, &word, 1u);
    launch(set, 1, 1, one_, &word, 2u);
    launch(copy, 1, 1, one_, &seen, &word);
    ASSERT_EQ(cudaStreamSynchronize(one_), cudaSuccess);
    ASSERT_EQ(seen, 2u);
    word = 0;
    launch(set, 1, 1, one_, &word, 1u);
    launch(set, 1, 1, one_, &word, 2u);
    launch(copy, 1, 1, two_, &seen, &word);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    found.insert(seen);
  }
  EXPECT_EQ(found, (std::set<unsigned>{0, 1, 2}));
}

TEST_F(Emulator, AnEventOrdersEagerAndCapturedWork) {
  unsigned word = 0, seen = 0;
  const auto fork_and_join = [&] {
    launch(set, 1, 1, one_, &word, 7u);
    EXPECT_EQ(cudaEventRecord(event_, one_), cudaSuccess);
    EXPECT_EQ(cudaStreamWaitEvent(two_, event_, 0), cudaSuccess);
    launch(copy, 1, 1, two_, &seen, &word);
    EXPECT_EQ(cudaEventRecord(event_, two_), cudaSuccess);
    EXPECT_EQ(cudaStreamWaitEvent(one_, event_, 0), cudaSuccess);
    launch(set, 1, 1, one_, &word, 0u);
  };
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(one_, cudaStreamCaptureModeGlobal), cudaSuccess);
  fork_and_join();
  ASSERT_EQ(cudaStreamEndCapture(one_, &graph), cudaSuccess);
  EXPECT_EQ(seen, 0u);
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  for (int n = 0; n < kTries; ++n) {
    seen = 0;
    if (n % 2 == 0) {
      fork_and_join();
    } else {
      ASSERT_EQ(cudaGraphLaunch(exec, one_), cudaSuccess);
    }
    ASSERT_EQ(cudaStreamSynchronize(one_), cudaSuccess);
    ASSERT_EQ(seen, 7u);
    ASSERT_EQ(word, 0u);
  }
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
}

TEST_F(Emulator, CallsThatBreakACapture) {
  unsigned word = 0;
  cudaGraph_t graph = nullptr;
  const auto ends_with = [&](const std::function<void()>& work) {
    EXPECT_EQ(cudaStreamBeginCapture(one_, cudaStreamCaptureModeGlobal), cudaSuccess);
    work();
    return cudaStreamEndCapture(one_, &graph);
  };
  EXPECT_EQ(ends_with([&] {
              cudaEventRecord(event_, one_);
              cudaStreamWaitEvent(two_, event_, 0);
              launch(set, 1, 1, two_, &word, 1u);
            }),
            cudaErrorStreamCaptureUnjoined);
  EXPECT_EQ(ends_with([&] { cudaStreamSynchronize(two_); }), cudaErrorStreamCaptureInvalidated);
  cudaEventRecord(event_, two_);
  EXPECT_EQ(ends_with([&] { cudaStreamWaitEvent(one_, event_, 0); }),
            cudaErrorStreamCaptureInvalidated);
  EXPECT_EQ(ends_with([&] { cudaEventRecord(event_, one_); }), cudaSuccess);
  cudaGraphDestroy(graph);
  EXPECT_EQ(cudaStreamWaitEvent(two_, event_, 0), cudaErrorCapturedEvent);
  EXPECT_EQ(cudaGetLastError(), cudaErrorCapturedEvent);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

// Each thread reads what another one wrote before the barrier.
__global__ void rotate(unsigned* words, unsigned* rotated) {
  words[threadIdx.x] = 1000 * blockIdx.x + threadIdx.x;
  __syncthreads();
  rotated[blockIdx.x * blockDim.x + threadIdx.x] = words[(threadIdx.x + 1) % blockDim.x];
  __syncthreads();
}

TEST_F(Emulator, ABarrierHoldsTheThreadsOfItsBlock) {
  std::vector<unsigned> words(544), rotated(544);
  launch(rotate, 1, 544, one_, words.data(), rotated.data());
  ASSERT_EQ(cudaStreamSynchronize(one_), cudaSuccess);
  for (unsigned n = 0; n < 544; ++n) ASSERT_EQ(rotated[n], (n + 1) % 544);
}

__global__ void half_of_them_meet() {
  if (threadIdx.x % 2 == 0) __syncthreads();
}

TEST_F(Emulator, ABarrierThatSomeThreadsMissAborts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        launch(half_of_them_meet, 1, 4, one_);
        cudaStreamSynchronize(one_);
      },
      "2 threads of a block wait in __syncthreads\\(\\), but 2 have ended");
}

// Blocks run side by side: plain increments get lost, atomic ones do not.
__global__ void count(unsigned* atomic, unsigned* plain) {
  atomicAdd(atomic, 1u);
  const unsigned before = *plain;
  __threadfence();
  *plain = before + 1;
}

TEST_F(Emulator, BlocksAndThreadsInterleave) {
  unsigned atomic = 0, plain = 0;
  launch(count, 20, 64, one_, &atomic, &plain);
  ASSERT_EQ(cudaStreamSynchronize(one_), cudaSuccess);
  EXPECT_EQ(atomic, 20u * 64);
  EXPECT_LT(plain, 20u * 64);
}

__global__ void add_up(unsigned* sums, unsigned* zeros) {
  std::uint64_t* const shared = shared_words();
  if (shared[threadIdx.x] == 0) atomicAdd(zeros, 1u);
  shared[threadIdx.x] = blockIdx.x;
  __threadfence();
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (unsigned n = 0; n < blockDim.x; ++n) sums[blockIdx.x] += static_cast<unsigned>(shared[n]);
}

TEST_F(Emulator, SharedMemoryIsPerBlockAndUninitialized) {
  constexpr unsigned kBlocks = 20, kThreads = 16;
  unsigned sums[kBlocks] = {}, zeros = 0;
  ASSERT_EQ(launch_kernel(add_up, kBlocks, kThreads, kThreads * sizeof(std::uint64_t), one_,
                          &sums[0], &zeros),
            cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(one_), cudaSuccess);
  for (unsigned block = 0; block < kBlocks; ++block) EXPECT_EQ(sums[block], block * kThreads);
  EXPECT_LT(zeros, 10u);
}

}  // namespace
}  // namespace moetrace::cuda
