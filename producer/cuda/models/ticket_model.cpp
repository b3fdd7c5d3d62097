// The tickets of the blocks that end a step (takes_last_ticket in producer/cuda), within a GPU.
// Each block writes its records and then takes a ticket, with acquire and release. The block with
// the last ticket publishes, so it must come after the stores of all blocks. Weakened: the acquire,
// or the release.
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
