#include "producer/host_hook.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <type_traits>

#include "producer/clock.hpp"
#include "shm/counts_words.hpp"
#include "shm/layer_mask.hpp"
#include "shm/route_layout.hpp"
#include "shm/snapshot.hpp"

namespace moetrace {
namespace {

// Mirroring copies the whole table of counts, so do it at most this often.
constexpr std::int64_t kMirrorEveryNs = 10'000'000;
// Minimum number of records between two timed calls. Timing a call costs some 50 ns, so this bounds
// the cost at 0.2 ns a record.
constexpr std::uint64_t kRecordsASample = 256;
// A call that takes longer than this, plus kLongestRowNs a row, was interrupted; its time was not
// the hook's. The first touch of a page of the ring takes 1 us.
constexpr std::int64_t kLongestCallNs = 5'000;
constexpr std::int64_t kLongestRowNs = 500;

// The cost of one clock reading: the shortest of 100 pairs.
std::int64_t clock_reading_ns() {
  std::int64_t shortest = std::numeric_limits<std::int64_t>::max();
  for (int n = 0; n < 100; ++n) {
    const std::int64_t begin = monotonic_ns();
    shortest = std::min(shortest, monotonic_ns() - begin);
  }
  return shortest;
}

struct BFloat16 {
  std::uint16_t bits;
};
struct Float16 {
  std::uint16_t bits;
};
struct NoWeight {};

float to_float(BFloat16 value) {
  return std::bit_cast<float>(std::uint32_t{value.bits} << 16);
}
float to_float(Float16 value) {
  const std::uint32_t sign = std::uint32_t{value.bits & 0x8000u} << 16;
  const std::uint32_t exponent = value.bits >> 10 & 0x1F;
  const std::uint32_t fraction = value.bits & 0x3FF;
  // Exponent 0: a subnormal, fraction * 2^-24. 31: infinity or NaN. Else the bias changes from 15
  // to 127.
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000u | fraction << 13);
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
}

// Counts the id and returns what the record stores. An id outside [0, ids) is not counted and
// becomes MOETRACE_NO_EXPERT.
template <class Id>
std::uint64_t count_expert(Id id, std::uint32_t ids, std::uint64_t* counts) {
  const auto wide = static_cast<std::uint64_t>(static_cast<std::int64_t>(id));
  if (wide >= ids) return MOETRACE_NO_EXPERT;
  ++counts[wide];
  // Below MOETRACE_NO_EXPERT, because `ids` is at most that.
  return wide;
}

// Fills a slot except its first 8 bytes, the commit word. K: the top-k of the layer, if known at
// compile time, which makes a record a few vector stores; 0: use `k`. The layer's ids are below
// `num_ids`.
template <std::uint32_t K, class Id, class Weight>
[[gnu::always_inline]] inline void write_record(std::byte* slot, std::uint32_t row,
                                                std::uint32_t layer, const Id* ids,
                                                [[maybe_unused]] const Weight* weights,
                                                std::size_t k, RouteLayout layout,
                                                std::uint32_t num_ids, std::uint64_t* counts) {
  // Row, layer and flags.
  const std::uint64_t place = row | std::uint64_t{layer} << 32;
  std::memcpy(slot + offsetof(moetrace_route_head, row), &place, sizeof place);
  std::byte* const record_ids = slot + layout.ids_offset();
  std::byte* const record_weights = slot + layout.weights_offset();
  const std::size_t entries = layout.entries();
  // Build four ids in a register. A small array would be written in parts and read back whole,
  // which defeats the processor's store forwarding.
#pragma GCC unroll 2
  for (std::size_t j = 0; j < entries; j += 4) {
    std::uint64_t four = 0;
#pragma GCC unroll 4
    for (std::size_t part = 0; part < 4; ++part) {
      std::uint64_t expert = MOETRACE_NO_EXPERT;
      if (j + part < k) expert = count_expert(ids[j + part], num_ids, counts);
      four |= expert << (16 * part);
    }
    std::memcpy(record_ids + j * sizeof(std::uint16_t), &four, sizeof four);
  }
  if constexpr (std::is_same_v<Weight, float>) {
    std::memcpy(record_weights, weights, k * sizeof(float));
  } else {
    for (std::size_t j = 0; j < k; ++j) {
      float weight = std::numeric_limits<float>::quiet_NaN();
      if constexpr (!std::is_same_v<Weight, NoWeight>) weight = to_float(weights[j]);
      std::memcpy(record_weights + j * sizeof weight, &weight, sizeof weight);
    }
  }
  std::memset(record_weights + k * sizeof(float), 0, layout.weights_bytes() - k * sizeof(float));
}

}  // namespace

HostHook::HostHook(const SegmentMap& map)
    : map_(map),
      ring_(map.route_ring(), map.header().route_slots),
      shapes_(shapes_of(map.layers())),
      layout_(map.route_layout()),
      num_experts_(map.header().num_experts),
      top_k_(std::ranges::all_of(
                 shapes_, [&](const LayerShape& of) { return of.top_k == map.header().top_k; })
                 ? map.header().top_k
                 : 0),
      clock_ns_(clock_reading_ns()),
      counts_(std::size_t{map.header().num_layers} * map.header().num_experts) {}

std::vector<HostHook::LayerShape> HostHook::shapes_of(const LayerTable& layers) {
  std::vector<LayerShape> shapes;
  for (std::uint32_t layer = 0; layer < layers.num_layers(); ++layer)
    shapes.push_back({layers.top_k_of(layer), layers.ids_of(layer)});
  return shapes;
}

void HostHook::arm(const StepBlock& block) {
  if (is_open()) finish_step();
  block_ = block;
  last_layer_ = last_layer(block.layers);
  last_seen_ = block.rows > 0 ? -1 : kOver;
  // Without a selected layer no record() will end the step.
  if (is_open() && last_layer_ < 0) finish_step();
  untimed_records_ += std::uint64_t{block.rows} * block.selected;
  if (untimed_records_ >= timing_due_ && block.selected > 0) {
    calls_to_skip_ = static_cast<std::uint32_t>(samples_++ % block.selected);
    recorder_ = &HostHook::record_timed;
  }
}

void HostHook::record(std::uint32_t layer, const void* ids, moetrace_type id_type,
                      const void* weights, moetrace_type weight_type, std::uint32_t rows) {
  // The cast can't overflow: layers of the mask are below 256.
  if (!has_layer(block_.layers, layer) || static_cast<int>(layer) <= last_seen_) return;
  // An engine passes the same types in every call, so the recorder is chosen once. Each call below
  // is a tail call: the usual path saves no register.
  const Types types = types_of(id_type, weights, weight_type);
  if (types != types_) [[unlikely]]
    return record_other_types(layer, ids, id_type, weights, weight_type, rows);
  recorder_(*this, layer, ids, weights, rows);
}

[[gnu::noinline]] void HostHook::record_other_types(std::uint32_t layer, const void* ids,
                                                    moetrace_type id_type, const void* weights,
                                                    moetrace_type weight_type, std::uint32_t rows) {
  types_ = types_of(id_type, weights, weight_type);
  plain_recorder_ = recorder_for(types_);
  if (recorder_ != &HostHook::record_timed) recorder_ = plain_recorder_;
  recorder_(*this, layer, ids, weights, rows);
}

// The id type is unknown: the rows count as torn.
void HostHook::record_nothing(HostHook&, std::uint32_t, const void*, const void*, std::uint32_t) {}

// Replaces the plain recorder until it has timed one call, so that all other calls pay nothing.
void HostHook::record_timed(HostHook& hook, std::uint32_t layer, const void* ids,
                            const void* weights, std::uint32_t rows) {
  if (hook.calls_to_skip_ > 0) {
    --hook.calls_to_skip_;
    return hook.plain_recorder_(hook, layer, ids, weights, rows);
  }
  hook.recorder_ = hook.plain_recorder_;
  const std::uint64_t cost_before = hook.cost_ns_;
  const std::int64_t begin = monotonic_ns();
  hook.plain_recorder_(hook, layer, ids, weights, rows);
  const std::int64_t took = monotonic_ns() - begin - hook.clock_ns_;
  // If the call mirrored the counts, that time is in cost_ns_ already.
  hook.take_sample(took - static_cast<std::int64_t>(hook.cost_ns_ - cost_before),
                   std::min(rows, hook.block_.rows));
}

// The timed call stands for all records announced since the last one.
void HostHook::take_sample(std::int64_t ns, std::uint32_t rows) {
  // An unusable sample: the next step times a call instead.
  if (rows == 0 || ns > kLongestCallNs + kLongestRowNs * rows) return;
  sample_ns_ = static_cast<double>(std::max<std::int64_t>(ns, 0)) / rows;
  cost_ns_ += static_cast<std::uint64_t>(sample_ns_ * static_cast<double>(untimed_records_));
  untimed_records_ = 0;
  // Varies, so that samples never fall into step with a pattern of the engine.
  timing_due_ = kRecordsASample + samples_ % 7 * 32;
}

HostHook::Recorder HostHook::recorder_for(Types types) const {
  switch (types.id) {
    case MOETRACE_INT16:
      return recorder_for_weight<std::int16_t>(types.weight);
    case MOETRACE_INT32:
      return recorder_for_weight<std::int32_t>(types.weight);
    case MOETRACE_INT64:
      return recorder_for_weight<std::int64_t>(types.weight);
    case MOETRACE_UINT32:
      return recorder_for_weight<std::uint32_t>(types.weight);
    default:
      return &HostHook::record_nothing;
  }
}

template <class Id>
HostHook::Recorder HostHook::recorder_for_weight(int weight_type) const {
  switch (weight_type) {
    case MOETRACE_FLOAT32:
      return recorder_for_top_k<Id, float>();
    case MOETRACE_BFLOAT16:
      return recorder_for_top_k<Id, BFloat16>();
    case MOETRACE_FLOAT16:
      return recorder_for_top_k<Id, Float16>();
    default:
      return recorder_for_top_k<Id, NoWeight>();
  }
}

template <class Id, class Weight>
HostHook::Recorder HostHook::recorder_for_top_k() const {
  switch (top_k_) {
    case 4:
      return &HostHook::record_call<4, Id, Weight>;
    case 8:
      return &HostHook::record_call<8, Id, Weight>;
    default:
      return &HostHook::record_call<0, Id, Weight>;
  }
}

// Decoding one sequence makes one call a record, so one row has a fast path: without a loop or a
// call no register needs to be saved.
template <std::uint32_t K, class Id, class Weight>
void HostHook::record_call(HostHook& hook, std::uint32_t layer, const void* ids,
                           const void* weights, std::uint32_t rows) {
  if (rows != 1 || !hook.block_.record || hook.ring_.room(1) == 0)
    return hook.record_rows<K, Id, Weight>(layer, ids, weights, rows);
  const LayerShape shape = hook.shapes_[layer];
  const std::uint32_t k = K != 0 ? K : shape.top_k;
  const RouteLayout layout = K != 0 ? RouteLayout::of_top_k(K) : hook.layout_;
  const std::uint64_t position = hook.ring_.claim(1);
  std::byte* const slot = hook.ring_.memory().slot(position);
  write_record<K>(slot, 0, layer, static_cast<const Id*>(ids), static_cast<const Weight*>(weights),
                  k, layout, shape.ids,
                  hook.counts_.data() + std::size_t{layer} * hook.num_experts_);
  hook.ring_.commit_cell(MappedRing::cell_of(slot), position,
                         static_cast<std::uint32_t>(hook.block_.step));
  hook.end_layer(layer);
}

template <std::uint32_t K, class Id, class Weight>
[[gnu::noinline]] void HostHook::record_rows(std::uint32_t layer, const void* all_ids,
                                             const void* all_weights, std::uint32_t rows) {
  rows = std::min(rows, block_.rows);
  const auto* ids = static_cast<const Id*>(all_ids);
  const auto* weights = static_cast<const Weight*>(all_weights);
  const LayerShape shape = shapes_[layer];
  const std::uint32_t k = K != 0 ? K : shape.top_k;
  const RouteLayout layout = K != 0 ? RouteLayout::of_top_k(K) : layout_;
  std::uint64_t* const counts = counts_.data() + std::size_t{layer} * num_experts_;
  std::uint32_t taken = 0;
  if (block_.record) {
    taken = static_cast<std::uint32_t>(std::min<std::uint64_t>(ring_.room(rows), rows));
    // The newest records are dropped.
    dropped_ += rows - taken;
  }
  const std::uint64_t first = ring_.claim(taken);
  // A copy, because the compiler must assume that a store into a slot changes members.
  const MappedRing memory = ring_.memory();
  const auto step = static_cast<std::uint32_t>(block_.step);
  for (std::uint32_t row = 0; row < taken; ++row, ids += k) {
    std::byte* const slot = memory.slot(first + row);
    const Weight* const row_weights =
        std::is_same_v<Weight, NoWeight> ? nullptr : weights + std::size_t{row} * k;
    write_record<K>(slot, row, layer, ids, row_weights, k, layout, shape.ids, counts);
    ring_.commit_cell(MappedRing::cell_of(slot), first + row, step);
  }
  // Rows that are only counted, or had no slot.
  for (std::size_t n = 0; n < std::size_t{rows - taken} * k; ++n)
    count_expert(ids[n], shape.ids, counts);
  end_layer(layer);
}

inline void HostHook::end_layer(std::uint32_t layer) {
  last_seen_ = static_cast<int>(layer);
  if (last_seen_ == last_layer_) finish_step();
}

[[gnu::noinline]] void HostHook::finish_step() {
  last_seen_ = kOver;
  steps_done_ = block_.step + 1;
  write_snapshot(map_, {.number = ++snapshots_,
                        .steps_done = steps_done_,
                        .claimed = ring_.position(),
                        .dropped = dropped_});
  if (block_.time_ns - mirrored_ns_ >= kMirrorEveryNs) {
    mirrored_ns_ = block_.time_ns;
    const AddTime timed(cost_ns_);
    mirror_counts();
  }
}

void HostHook::mirror_counts() {
  write_counts(map_, steps_done_, counts_);
}

void HostHook::close() {
  if (is_open()) finish_step();
  mirror_counts();
  cost_ns_ += static_cast<std::uint64_t>(sample_ns_ * static_cast<double>(untimed_records_));
  untimed_records_ = 0;
}

}  // namespace moetrace
