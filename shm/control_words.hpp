// The control words of .ctl: what `moetrace start`, `stop` and `set` ask a producer for.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <optional>

#include "shm/segment_map.hpp"

namespace moetrace {

struct ControlWords {
  bool enabled = true;
  // 1: every step; n: every n-th step; 0: count only.
  std::uint32_t sample_every = 1;
  moetrace_layer_mask layers{};

  friend bool operator==(const ControlWords& a, const ControlWords& b) {
    return a.enabled == b.enabled && a.sample_every == b.sample_every &&
           std::equal(std::begin(a.layers.words), std::end(a.layers.words),
                      std::begin(b.layers.words));
  }
};

// Control words with the version that they were read at. The version grows with each write.
struct VersionedControl {
  std::uint64_t version;
  ControlWords words;
};

// Once the segment has its final name, hold CollectorSegment::lock_control() during the call:
// several processes may write.
void write_control(const SegmentMap& map, const ControlWords& words);

// Nothing if a writer is at work, or died while it wrote.
std::optional<VersionedControl> read_control(const SegmentMap& map);

}  // namespace moetrace
