#include "shm/counts_words.hpp"

#include "shm/shared_lines.hpp"

namespace moetrace {
namespace {

// The guarded words: word 0 is steps_done, which lies in the counts header; the table follows.
class GuardedCounts {
 public:
  explicit GuardedCounts(const SegmentMap& map)
      : header_(&map.state()->counts), table_(map.counts()) {}
  SharedWord version() const { return SharedWord(&header_->version); }
  SharedWord cell(std::size_t word) const {
    return SharedWord(word == 0 ? &header_->steps_done : table_ + (word - 1));
  }

 private:
  moetrace_counts_header* header_;
  std::uint64_t* table_;
};

}  // namespace

void write_counts(const SegmentMap& map, std::uint64_t steps_done,
                  std::span<const std::uint64_t> table) {
  VersionedWords(GuardedCounts(map)).write(1 + table.size(), [&](std::size_t word) {
    return word == 0 ? steps_done : table[word - 1];
  });
}

std::optional<Counts> read_counts(const SegmentMap& map, int tries) {
  const moetrace_ring_header& header = map.header();
  Counts counts;
  counts.table.resize(std::size_t{header.num_layers} * header.num_experts);
  const auto put = [&](std::size_t word, std::uint64_t value) {
    (word == 0 ? counts.steps_done : counts.table[word - 1]) = value;
  };
  const auto version = VersionedWords(GuardedCounts(map)).read(1 + counts.table.size(), put, tries);
  if (!version) return std::nullopt;
  counts.version = *version;
  return counts;
}

}  // namespace moetrace
