// All interleavings of the real VersionedWords, with two writes: the reader must get a whole copy
// or none.
#include "shm/models/relacy_memory.hpp"

namespace {

constexpr std::size_t kWords = 2;

struct Storage {
  rl::atomic<std::uint64_t> version;
  rl::atomic<std::uint64_t> words[kWords];
};

struct ModelWords {
  Storage* storage;
  model::Cell version() const { return {&storage->version, "read_version", "write_version"}; }
  model::Cell cell(std::size_t word) const {
    return {&storage->words[word], "read_word", "write_word"};
  }
};

struct WordsModel : rl::test_suite<WordsModel, 2> {
  Storage storage;

  void before() {
    storage.version($).store(0, rl::mo_relaxed);
    for (auto& word : storage.words) word($).store(0, rl::mo_relaxed);
  }

  void thread(unsigned id) {
    moetrace::VersionedWords<ModelWords> words(ModelWords{&storage});
    if (id == 0) {
      for (std::uint64_t n = 1; n <= 2; ++n) words.write(kWords, [&](std::size_t) { return n; });
      return;
    }
    std::uint64_t copy[kWords] = {};
    const auto version = words.read(
        kWords, [&](std::size_t w, std::uint64_t value) { copy[w] = value; }, 2);
    if (!version) return;
    for (const std::uint64_t word : copy) RL_ASSERT(word == *version / 2);
  }
};

}  // namespace

int main(int argc, char** argv) {
  return model::run<WordsModel>(argc, argv);
}
