// Tickets of the blocks of the launch that ends a step (producer/cuda: takes_last_ticket), within a
// GPU: each block writes its records and then takes one, with release and acquire; the last one,
// which alone publishes, comes after all that have written. Weakened: either half.
#include "shm/models/relacy_memory.hpp"

namespace {

constexpr int kBlocks = 3;

struct TicketModel : rl::test_suite<TicketModel, kBlocks> {
  rl::atomic<int> ticket;
  rl::var<int> written[kBlocks];

  void before() {
    ticket($).store(0, rl::mo_relaxed);
    for (auto& one : written) one($) = 0;
  }

  static rl::memory_order order() {
    if (model::g_weakened == "release") return rl::mo_acquire;
    if (model::g_weakened == "acquire") return rl::mo_release;
    return rl::mo_acq_rel;
  }

  void thread(unsigned id) {
    written[id]($) = 1;
    if (ticket($).fetch_add(1, order()) != kBlocks - 1) return;
    for (auto& one : written) RL_ASSERT(one($) == 1);
    ticket($).store(0, rl::mo_relaxed);
  }
};

}  // namespace

int main(int argc, char** argv) {
  return model::run<TicketModel>(argc, argv);
}
