#include "shm/control_words.hpp"

#include <cstddef>
#include <cstring>

#include "shm/shared_lines.hpp"

namespace moetrace {
namespace {

// `enabled` and `sample_every` share one word; the layer mask takes four. They lie in this order
// after moetrace_control.version.
constexpr std::size_t kWords = 5;

VersionedWords<MappedWords> guarded_control(const SegmentMap& map) {
  moetrace_control* control = &map.ctl()->control;
  return VersionedWords(
      MappedWords(&control->version, reinterpret_cast<std::uint64_t*>(control) + 1));
}

}  // namespace

void write_control(const SegmentMap& map, const ControlWords& words) {
  const std::uint64_t packed[kWords] = {
      std::uint64_t{words.enabled} | std::uint64_t{words.sample_every} << 32, words.layers.words[0],
      words.layers.words[1], words.layers.words[2], words.layers.words[3]};
  guarded_control(map).write(kWords, [&](std::size_t w) { return packed[w]; });
}

std::optional<VersionedControl> read_control(const SegmentMap& map) {
  std::uint64_t packed[kWords] = {};
  const auto version =
      guarded_control(map).read(kWords, [&](std::size_t w, std::uint64_t v) { packed[w] = v; });
  if (!version) return std::nullopt;
  ControlWords words;
  words.enabled = static_cast<std::uint32_t>(packed[0]) != 0;
  words.sample_every = static_cast<std::uint32_t>(packed[0] >> 32);
  std::memcpy(words.layers.words, packed + 1, sizeof words.layers.words);
  return VersionedControl{*version, words};
}

}  // namespace moetrace
