// Tickets of the blocks of one launch (producer/cuda: takes_last_ticket), within a GPU: each block
// reads the control block and then takes one, with release and acquire; the last one, which alone
// changes the control block, comes after all that have read it. Weakened: either half.
#include "shm/relacy_memory.hpp"

namespace {

constexpr int kBlocks = 3;

struct TicketModel : rl::test_suite<TicketModel, kBlocks> {
  rl::atomic<int> ticket;
  rl::var<int> control;
  rl::var<int> seen[kBlocks];

  void before() {
    ticket($).store(0, rl::mo_relaxed);
    control($) = 1;
    for (auto& one : seen) one($) = 0;
  }

  static rl::memory_order order() {
    if (model::g_weakened == "release") return rl::mo_acquire;
    if (model::g_weakened == "acquire") return rl::mo_release;
    return rl::mo_acq_rel;
  }

  void thread(unsigned id) {
    seen[id]($) = control($);
    if (ticket($).fetch_add(1, order()) != kBlocks - 1) return;
    for (auto& one : seen) RL_ASSERT(one($) == 1);
    control($) = 2;
    ticket($).store(0, rl::mo_relaxed);
  }
};

}  // namespace

int main(int argc, char** argv) {
  return model::run<TicketModel>(argc, argv);
}
