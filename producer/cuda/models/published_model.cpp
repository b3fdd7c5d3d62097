// The publishing protocol of a GPU's ring (ABI.md: A ring slot) in producer/cuda: two launches, of
// which the second has two blocks and ends a step.
//
// The kernels are device code, so this models their memory orders and not their text: a thread is a
// block, a fence is fence_system(), and a release and an acquire are the end of a kernel. The
// ticket is relaxed, because its order holds within the GPU only (ticket_model.cpp). The reader's
// side is RingReader's.
#include "shm/models/relacy_memory.hpp"

namespace {

// Each side tries this often and then gives up: no side waits for another.
constexpr int kTries = 2;

struct PublishedModel : rl::test_suite<PublishedModel, 3> {
  rl::atomic<std::uint64_t> published;
  rl::atomic<std::uint64_t> consumed;
  rl::atomic<int> kernel_end;
  rl::atomic<int> ticket;
  rl::var<int> payload[3];

  void before() {
    published($).store(0, rl::mo_relaxed);
    consumed($).store(0, rl::mo_relaxed);
    kernel_end($).store(0, rl::mo_relaxed);
    ticket($).store(0, rl::mo_relaxed);
    for (auto& slot : payload) slot($) = 0;
  }

  void fence(const char* name) {
    if (model::g_weakened != name) rl::atomic_thread_fence(rl::mo_acq_rel, $);
  }

  void thread(unsigned id) {
    if (id == 0) {
      // The first launch, of one block.
      payload[0]($) = 100;
      kernel_end($).store(1, rl::mo_release);
      // The second launch publishes it.
      fence("launch_fence");
      published($).store(1, rl::mo_relaxed);
      run_block(1);
    } else if (id == 1) {
      for (int tries = kTries; tries > 0; --tries) {
        if (kernel_end($).load(rl::mo_acquire) != 1) continue;
        run_block(2);
        return;
      }
    } else {
      read();
    }
  }

  // A block of the second launch; it writes one slot. The last block ends the step.
  void run_block(int slot) {
    payload[slot]($) = 100 + slot;
    fence("block_fence");
    const bool last = ticket($).fetch_add(1, rl::mo_relaxed) == 1;
    if (!last) return;
    fence("step_fence");
    published($).store(3, rl::mo_relaxed);
    // A third launch reuses slot 0 if the reader has given it back.
    const std::uint64_t seen =
        consumed($).load(model::relacy_order(std::memory_order::acquire, "look_for_room"));
    if (seen >= 1) payload[0]($) = 103;
  }

  void read() {
    std::uint64_t position = 0;
    for (int tries = kTries; tries > 0 && position < 3; --tries) {
      const std::uint64_t end =
          published($).load(model::relacy_order(std::memory_order::acquire, "valid_routes_end"));
      RL_ASSERT(end >= position);
      for (; position < end; ++position) {
        RL_ASSERT(payload[position]($) == 100 + static_cast<int>(position));
      }
      consumed($).store(position, model::relacy_order(std::memory_order::release, "publish"));
    }
  }
};

}  // namespace

int main(int argc, char** argv) {
  return model::run<PublishedModel>(argc, argv);
}
