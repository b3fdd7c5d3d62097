// All interleavings of the real AlternatingLines, with three writes: the third overwrites a line
// that a reader may be reading.
#include "shm/models/relacy_memory.hpp"

namespace {

constexpr std::uint64_t kWrites = 3;

struct Storage {
  rl::atomic<std::uint64_t> words[2][8];
};

struct ModelLines {
  Storage* storage;
  model::Cell cell(std::size_t line, std::size_t word) const {
    if (word == 0) return {&storage->words[line][0], "read_number", "write_number"};
    return {&storage->words[line][word], "read_word", "write_word"};
  }
};

struct LinesModel : rl::test_suite<LinesModel, 2> {
  using Lines = moetrace::AlternatingLines<ModelLines, 2>;
  Storage storage;

  void before() {
    for (auto& line : storage.words) {
      for (auto& word : line) word($).store(0, rl::mo_relaxed);
    }
  }

  void thread(unsigned id) {
    Lines lines(ModelLines{&storage});
    if (id == 0) {
      for (std::uint64_t n = 1; n <= kWrites; ++n) lines.write({n, {n, n}});
      return;
    }
    if (const auto line = lines.read(1)) {
      for (const std::uint64_t word : line->payload) RL_ASSERT(word == line->number);
    }
  }
};

}  // namespace

int main(int argc, char** argv) {
  return model::run<LinesModel>(argc, argv);
}
