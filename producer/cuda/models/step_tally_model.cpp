// The two tallies of a GPU's launches (producer/cuda/step_tally.cuh), with relaxed operations only.
// Blocks of one launch run in any order: each must find what the previous launch left, and the next
// launch what this one wrote.
//
// Weakened: `own`, a block takes the newer tally even if its own launch wrote it; `shares`, each
// block adds 2^24 instead of its share; `load`, a block loads `begun` after it has added.
#include "producer/cuda/launch_number.cuh"
#include "shm/models/relacy_memory.hpp"

namespace {

using namespace moetrace::cuda;

constexpr unsigned kBlocks = 2;
// Launches before the first one here.
constexpr std::uint64_t kLaunches = 7;
// Launch n leaves n in `claimed`.
struct StepTally {
  rl::atomic<std::uint64_t> end, claimed;
};

struct StepTallyModel : rl::test_suite<StepTallyModel, kBlocks> {
  rl::atomic<std::uint64_t> begun;
  StepTally tallies[2];
  rl::atomic<int> over;

  void before() {
    begun($).store(kLaunches * kOneLaunch, rl::mo_relaxed);
    over($).store(0, rl::mo_relaxed);
    // Launch kLaunches - 1 wrote no tally, because no layer of it was selected.
    store(tallies[0], kLaunches * kOneLaunch, kLaunches);
    store(tallies[1], (kLaunches - 2) * kOneLaunch, kLaunches - 2);
  }

  static void store(StepTally& tally, std::uint64_t end, std::uint64_t claimed) {
    tally.end($).store(end, rl::mo_relaxed);
    tally.claimed($).store(claimed, rl::mo_relaxed);
  }

  // Runs one block of a launch; block number `writer` writes the tally.
  void run_block(unsigned block, unsigned writer, std::uint64_t before) {
    const std::uint64_t share =
        model::g_weakened == "shares" ? kOneLaunch : share_of_launch(block, kBlocks);
    std::uint64_t found = begun($).load(rl::mo_relaxed);
    const std::uint64_t also_found = begun($).fetch_add(share, rl::mo_relaxed);
    if (model::g_weakened == "load") found = also_found + share;
    std::uint64_t end[2], claimed[2];
    for (int n = 0; n < 2; ++n) {
      claimed[n] = tallies[n].claimed($).load(rl::mo_relaxed);
      end[n] = tallies[n].end($).load(rl::mo_relaxed);
    }
    const unsigned from =
        model::g_weakened == "own" ? (end[0] > end[1] ? 0 : 1) : begins_with(found, end[0], end[1]);
    RL_ASSERT(claimed[from] == before);
    if (block == writer) store(tallies[1 - from], end_of_launch(found), before + 1);
  }

  void thread(unsigned id) {
    run_block(id, 0, kLaunches);
    // The end of a launch: the last block runs the next ones.
    if (over($).fetch_add(1, rl::mo_acq_rel) != kBlocks - 1) return;
    RL_ASSERT(begun($).load(rl::mo_relaxed) == (kLaunches + 1) * kOneLaunch);
    for (unsigned block = 0; block < kBlocks; ++block) run_block(block, 1, kLaunches + 1);
    run_block(0, 0, kLaunches + 2);
  }
};

}  // namespace

int main(int argc, char** argv) {
  return model::run<StepTallyModel>(argc, argv);
}
