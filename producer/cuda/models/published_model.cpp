// The protocol of a GPU's ring (ABI.md: A ring slot), as producer/cuda has it: two launches, the
// second of two blocks, which ends a step. The kernels themselves are device code, so this models
// their orders and not their text: a thread a block, a fence for fence_system(), a release and
// acquire for the end of a kernel. The ticket is relaxed, as its order holds within the GPU only
// (ticket_model.cpp). The reader's side is RingReader's.
#include "shm/models/relacy_memory.hpp"

namespace {

constexpr int kTries = 2;  // each side looks this often, then gives up: nobody waits for anybody

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
      payload[0]($) = 100;  // the first launch, of one block
      kernel_end($).store(1, rl::mo_release);
      fence("launch_fence");  // the second one publishes it
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

  // A block of the second launch, which writes one slot. Its last one ends the step.
  void run_block(int slot) {
    payload[slot]($) = 100 + slot;
    fence("block_fence");
    const bool last = ticket($).fetch_add(1, rl::mo_relaxed) == 1;
    if (!last) return;
    fence("step_fence");
    published($).store(3, rl::mo_relaxed);
    // A third launch writes slot 0 again, if the reader has given it back.
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
