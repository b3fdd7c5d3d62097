// The hook for routing in host memory: writes route records, counts the experts, and ends steps.
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

  // Arms the hook for the pass that follows; rows = 0 disarms it. Ends an earlier step that is
  // still open.
  void arm(const StepBlock& block);

  // See moetrace_record.
  void record(std::uint32_t layer, const void* ids, moetrace_type id_type, const void* weights,
              moetrace_type weight_type, std::uint32_t rows);

  // Ends an open step and mirrors the counts a last time.
  void close();

  // An estimate of the time spent in record(), from a sample of timed calls.
  std::uint64_t cost_ns() const { return cost_ns_; }

  std::uint64_t claimed() const { return ring_.position(); }
  std::uint64_t dropped() const { return dropped_; }
  // Free route slots: at least `wanted` if that many are free.
  std::uint64_t room(std::uint64_t wanted) { return ring_.room(wanted); }

 private:
  // The element types of a call, as moetrace_type; kNoWeights if it has no weights.
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
  // What a layer's ids and weights look like.
  struct LayerShape {
    std::uint32_t top_k;
    // Ids are below it.
    std::uint32_t ids;
  };
  static std::vector<LayerShape> shapes_of(const LayerTable& layers);
  // The recorder for these types and this top-k; record_nothing if `types.id` is not an id type.
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
  // Whether a step is announced and not over.
  bool is_open() const { return last_seen_ != kOver; }

  const SegmentMap& map_;
  RingWriter<MappedRing> ring_;
  // By layer.
  const std::vector<LayerShape> shapes_;
  // Of the header: the size of a record, and the stride of the counts.
  const RouteLayout layout_;
  const std::uint32_t num_experts_;
  // The header's top-k if every layer has it, else 0.
  const std::uint32_t top_k_;
  // The types of the last call, and the recorder for them.
  Types types_;
  Recorder plain_recorder_ = &record_nothing;
  // plain_recorder_, or record_timed.
  Recorder recorder_ = &record_nothing;
  StepBlock block_;
  // The step's last layer so far; -1 before the first. kOver ends the step: no layer is above it.
  static constexpr int kOver = std::numeric_limits<int>::max();
  int last_seen_ = kOver;
  // The step's last selected layer.
  int last_layer_ = -1;
  std::uint64_t dropped_ = 0;
  std::uint64_t snapshots_ = 0;
  std::uint64_t steps_done_ = 0;
  std::int64_t mirrored_ns_ = 0;
  std::uint64_t cost_ns_ = 0;
  // Cost of one clock reading, which is subtracted from a timed call.
  const std::int64_t clock_ns_;
  // Records announced since the last timed call.
  std::uint64_t untimed_records_ = 0;
  // Time one call once this many records are untimed.
  std::uint64_t timing_due_ = 1;
  // Calls to skip before the timed one, so that each layer is timed in turn.
  std::uint32_t calls_to_skip_ = 0;
  std::uint64_t samples_ = 0;
  // Time per record of the last timed call.
  double sample_ns_ = 0;
  // [num_layers][num_experts]
  std::vector<std::uint64_t> counts_;
};

}  // namespace moetrace
