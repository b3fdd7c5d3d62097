#include "producer/cuda/emulator/grid.hpp"

#include <setjmp.h>
#include <signal.h>

#include <algorithm>
#include <boost/context/fiber.hpp>
#include <boost/context/fixedsize_stack.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "cuda_runtime.h"

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace moetrace::cuda {
// What `extern __shared__` names: the shared memory of the running block.
alignas(64) std::uint64_t dynamic_shared_words[64 * 1024 / sizeof(std::uint64_t)];
}  // namespace moetrace::cuda

namespace moetrace::emulator {
namespace {

namespace context = boost::context;

constexpr std::size_t kStackBytes = 64 * 1024;
constexpr std::size_t kBlocksAtATime = 3;
// One in 4 fences switches to another thread; more would be slow.
constexpr std::size_t kAsideEvery = 4;

class Fiber;
thread_local Fiber* running = nullptr;

// Runs a thread of a block; reused for other threads.
class Fiber {
 public:
  Fiber()
      : inside_(std::allocator_arg, context::fixedsize_stack(kStackBytes),
                [this](context::fiber&& outside) {
                  outside_ = std::move(outside);
                  for (;;) {
                    (*kernel_)();
                    over_ = true;
                    leave();
                  }
                  // Never reached.
                  return std::move(outside_);
                }) {}

  void begin(const std::function<void()>& kernel, dim3 thread) {
    kernel_ = &kernel;
    thread_ = thread;
    over_ = false;
  }
  // Runs the thread until it reaches a barrier, steps aside or ends.
  void go_on(dim3 block) {
    running = this;
    threadIdx = thread_;
    blockIdx = block;
    inside_ = std::move(inside_).resume();
    running = nullptr;
  }
  // Returns to go_on(). Call it from inside the fiber.
  void leave() { outside_ = std::move(outside_).resume(); }

  bool over() const { return over_; }
  bool meets = false;

 private:
  context::fiber inside_, outside_;
  const std::function<void()>* kernel_ = nullptr;
  dim3 thread_;
  bool over_ = false;
};

// Kept for the life of the process, because creating a fiber costs more than running it.
std::vector<std::unique_ptr<Fiber>>& idle_fibers() {
  static auto& fibers = *new std::vector<std::unique_ptr<Fiber>>;
  return fibers;
}

class Block {
 public:
  Block(const Grid& grid, unsigned number) : place_(number), shared_(grid.shared_bytes) {
    // Arbitrary content, as on real hardware.
    for (std::byte& one : shared_) one = static_cast<std::byte>(random_below(256));
    auto& idle = idle_fibers();
    for (unsigned thread = 0; thread < grid.threads.x; ++thread) {
      if (idle.empty()) {
        fibers_.push_back(std::make_unique<Fiber>());
      } else {
        fibers_.push_back(std::move(idle.back()));
        idle.pop_back();
      }
      fibers_.back()->begin(grid.kernel, thread);
      ready_.push_back(fibers_.back().get());
    }
  }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  ~Block() {
    for (auto& fiber : fibers_) idle_fibers().push_back(std::move(fiber));
  }

  bool over() const { return ready_.empty(); }
  // Copies the block's shared memory to where its threads access it, and back.
  void bring_shared() { std::memcpy(cuda::dynamic_shared_words, shared_.data(), shared_.size()); }
  void take_shared() { std::memcpy(shared_.data(), cuda::dynamic_shared_words, shared_.size()); }
  void step() {
    std::swap(ready_[random_below(ready_.size())], ready_.back());
    Fiber* const fiber = ready_.back();
    fiber->go_on(place_);
    if (fiber->over()) {
      ready_.pop_back();
      ++over_;
    } else if (fiber->meets) {
      fiber->meets = false;
      ready_.pop_back();
      waiting_.push_back(fiber);
    }
    if (!ready_.empty() || waiting_.empty()) return;
    if (over_ != 0) {
      std::fprintf(stderr, "%zu threads of a block wait in __syncthreads(), but %zu have ended\n",
                   waiting_.size(), over_);
      std::abort();
    }
    ready_.swap(waiting_);
  }
  // Drops the fibers without destroying them: they are suspended in the middle of a kernel.
  void abandon() {
    for (auto& fiber : fibers_) fiber.release();
    fibers_.clear();
  }

 private:
  dim3 place_;
  std::vector<std::byte> shared_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> ready_, waiting_;
  std::size_t over_ = 0;
};

sigjmp_buf out_of_kernel;

void on_bad_address(int number) {
  // Not a kernel's access, or another thread's.
  if (running == nullptr) {
    ::signal(number, SIG_DFL);
    return;
  }
  siglongjmp(out_of_kernel, 1);
}

void run_blocks(const Grid& grid, std::vector<std::unique_ptr<Block>>& blocks) {
  std::vector<unsigned> numbers(grid.blocks.x);
  std::iota(numbers.begin(), numbers.end(), 0u);
  Block* before = nullptr;
  while (!numbers.empty() || !blocks.empty()) {
    while (!numbers.empty() && blocks.size() < kBlocksAtATime) {
      std::swap(numbers[random_below(numbers.size())], numbers.back());
      blocks.push_back(std::make_unique<Block>(grid, numbers.back()));
      numbers.pop_back();
    }
    auto& block = blocks[random_below(blocks.size())];
    if (block.get() != before) {
      if (before != nullptr) before->take_shared();
      block->bring_shared();
      before = block.get();
    }
    block->step();
    if (!block->over()) continue;
    before = nullptr;
    std::swap(block, blocks.back());
    blocks.pop_back();
  }
}

}  // namespace

std::size_t random_below(std::size_t end) {
  static std::minstd_rand random;
  return random() % end;
}

void meet() {
  running->meets = true;
  running->leave();
}

void step_aside() {
  if (random_below(kAsideEvery) == 0) running->leave();
}

bool run(const Grid& grid) {
  static const bool prepared = [] {
    struct sigaction action {};
    action.sa_handler = on_bad_address;
    action.sa_flags = SA_NODEFER;
    return ::sigaction(SIGSEGV, &action, nullptr) == 0;
  }();
  (void)prepared;
  blockDim = grid.threads;
  gridDim = grid.blocks;
  // Static, so that it survives the siglongjmp.
  static auto& blocks = *new std::vector<std::unique_ptr<Block>>;
  if (sigsetjmp(out_of_kernel, 1) != 0) {
    running = nullptr;
    for (auto& block : blocks) block->abandon();
    blocks.clear();
    return false;
  }
  run_blocks(grid, blocks);
  return true;
}

}  // namespace moetrace::emulator
