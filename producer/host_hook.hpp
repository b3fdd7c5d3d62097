// The hook for routing that lies in host memory: writes route records, counts, and closes steps.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "producer/announcer.hpp"
#include "producer/producer.h"
#include "shm/segment_map.hpp"

namespace moetrace {

class HostHook {
 public:
  explicit HostHook(const SegmentMap& map);

  // A pass follows. rows = 0 disarms. An unfinished earlier step is over with this.
  void arm(const StepBlock& block);

  // As moetrace_record.
  void record(std::uint32_t layer, const void* ids, moetrace_type id_type, const void* weights,
              moetrace_type weight_type, std::uint32_t rows);

  // Ends what is open and mirrors the counts a last time.
  void close();

  // An estimate of the time that calls of record() have taken: some are timed.
  std::uint64_t cost_ns() const { return cost_ns_; }

  std::uint64_t claimed() const { return ring_.position(); }
  std::uint64_t dropped() const { return dropped_; }
  // Route slots that are free now, at least `wanted` if there are that many.
  std::uint64_t room(std::uint64_t wanted) { return ring_.room(wanted); }

 private:
  // What a call's data is made of, as moetrace_type; kNoWeights where there are none.
  struct Types {
    int id = 0;
    int weight = 0;
    friend bool operator==(const Types&, const Types&) = default;
  };
  static constexpr int kNoWeights = -1;
  // A plain function, so that record() ends in a jump to it.
  using Recorder = void (*)(HostHook& hook, std::uint32_t layer, const void* ids,
                            const void* weights, std::uint32_t rows);

  static Types types_of(moetrace_type id_type, const void* weights, moetrace_type weight_type) {
    return {id_type, weights == nullptr ? kNoWeights : static_cast<int>(weight_type)};
  }
  void record_other_types(std::uint32_t layer, const void* ids, moetrace_type id_type,
                          const void* weights, moetrace_type weight_type, std::uint32_t rows);
  // For these types and this top-k; record_nothing if the ids are none.
  Recorder recorder_for(Types types) const;
  template <class Id>
  Recorder recorder_for_weight(int weight_type) const;
  template <class Id, class Weight>
  Recorder recorder_for_top_k() const;
  template <std::uint32_t K, class Id, class Weight>
  static void record_call(HostHook& hook, std::uint32_t layer, const void* ids, const void* weights,
                          std::uint32_t rows);
  static void record_nothing(HostHook& hook, std::uint32_t layer, const void* ids,
                             const void* weights, std::uint32_t rows);
  template <std::uint32_t K, class Id, class Weight>
  void record_rows(std::uint32_t layer, const void* all_ids, const void* all_weights,
                   std::uint32_t rows);
  static void record_timed(HostHook& hook, std::uint32_t layer, const void* ids,
                           const void* weights, std::uint32_t rows);
  void take_sample(std::int64_t ns, std::uint32_t rows);
  void end_layer(std::uint32_t layer);
  void finish_step();
  void mirror_counts();
  bool is_open() const { return last_seen_ != kOver; }  // announced and not over

  const SegmentMap& map_;
  RingWriter<MappedRing> ring_;
  const std::uint32_t top_k_;
  const std::uint32_t num_experts_;
  Types types_;                                // of the last call
  Recorder plain_recorder_ = &record_nothing;  // for these types
  Recorder recorder_ = &record_nothing;        // the same, or record_timed
  StepBlock block_;
  // Last layer of this step that has passed, -1 before the first. No layer is above kOver.
  static constexpr int kOver = std::numeric_limits<int>::max();
  int last_seen_ = kOver;
  int last_layer_ = -1;  // its last selected layer
  std::uint64_t dropped_ = 0;
  std::uint64_t snapshots_ = 0;
  std::uint64_t steps_done_ = 0;
  std::int64_t mirrored_ns_ = 0;
  std::uint64_t cost_ns_ = 0;
  const std::int64_t clock_ns_;        // what a look at the clock takes itself
  std::uint64_t untimed_records_ = 0;  // announced since the last timed call
  std::uint64_t timing_due_ = 1;       // so many of them, and a call is timed
  std::uint32_t calls_to_pass_ = 0;    // before that one
  std::uint64_t samples_ = 0;
  double sample_ns_ = 0;               // of the last timed call, a record
  std::vector<std::uint64_t> counts_;  // [num_layers][num_experts]
};

}  // namespace moetrace
