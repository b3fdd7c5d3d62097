#include "producer/host_hook.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <type_traits>

#include "producer/layer_mask.hpp"

namespace moetrace {
namespace {

// A counts mirror costs a copy of the table, so it is made at most this often (DESIGN section 4).
constexpr std::int64_t kMirrorEveryNs = 10'000'000;

struct BFloat16 {
  std::uint16_t bits;
};
struct Float16 {
  std::uint16_t bits;
};
struct NoWeight {};

float to_float(float value) { return value; }
float to_float(BFloat16 value) { return std::bit_cast<float>(std::uint32_t{value.bits} << 16); }
float to_float(Float16 value) {
  const std::uint32_t sign = std::uint32_t{value.bits & 0x8000u} << 16;
  const std::uint32_t exponent = value.bits >> 10 & 0x1F;
  const std::uint32_t fraction = value.bits & 0x3FF;
  // 0: a subnormal, fraction * 2^-24. 31: infinity or NaN. Else the bias goes from 15 to 127.
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000u | fraction << 13);
  return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
}

// The id as it is stored: anything outside [0, num_experts) is none.
template <class Id>
std::uint16_t to_expert(Id id, std::uint32_t num_experts) {
  const auto wide = static_cast<std::uint64_t>(static_cast<std::int64_t>(id));
  return wide < num_experts ? static_cast<std::uint16_t>(wide) : static_cast<std::uint16_t>(MOETRACE_NO_EXPERT);
}

}  // namespace

HostHook::HostHook(const SegmentMap& map)
    : map_(map),
      ring_(map.route_ring(), map.header().route_slots),
      top_k_(map.header().top_k),
      num_experts_(map.header().num_experts),
      counts_(std::size_t{map.header().num_layers} * map.header().num_experts) {}

void HostHook::arm(const StepBlock& block) {
  if (open_) finish_step();
  block_ = block;
  last_seen_ = -1;
  last_layer_ = last_layer(block.layers);
  open_ = block.rows > 0;
  // Nothing is selected, so no layer will end it.
  if (open_ && last_layer_ < 0) finish_step();
}

void HostHook::record(std::uint32_t layer, const void* ids, moetrace_type id_type, const void* weights,
                      moetrace_type weight_type, std::uint32_t rows) {
  if (!open_ || static_cast<int>(layer) <= last_seen_ || !has_layer(block_.layers, layer)) return;
  rows = std::min(rows, block_.rows);
  switch (id_type) {
    case MOETRACE_INT16:
      dispatch_weights(layer, static_cast<const std::int16_t*>(ids), weights, weight_type, rows);
      break;
    case MOETRACE_INT32:
      dispatch_weights(layer, static_cast<const std::int32_t*>(ids), weights, weight_type, rows);
      break;
    case MOETRACE_INT64:
      dispatch_weights(layer, static_cast<const std::int64_t*>(ids), weights, weight_type, rows);
      break;
    case MOETRACE_UINT32:
      dispatch_weights(layer, static_cast<const std::uint32_t*>(ids), weights, weight_type, rows);
      break;
    default:
      return;  // not an id type: the rows count as torn
  }
  last_seen_ = static_cast<int>(layer);
  if (last_seen_ == last_layer_) finish_step();
}

template <class Id>
void HostHook::dispatch_weights(std::uint32_t layer, const Id* ids, const void* weights, moetrace_type weight_type,
                                std::uint32_t rows) {
  if (weights == nullptr) return dispatch_top_k(layer, ids, static_cast<const NoWeight*>(nullptr), rows);
  switch (weight_type) {
    case MOETRACE_FLOAT32:
      return dispatch_top_k(layer, ids, static_cast<const float*>(weights), rows);
    case MOETRACE_BFLOAT16:
      return dispatch_top_k(layer, ids, static_cast<const BFloat16*>(weights), rows);
    case MOETRACE_FLOAT16:
      return dispatch_top_k(layer, ids, static_cast<const Float16*>(weights), rows);
    default:
      return dispatch_top_k(layer, ids, static_cast<const NoWeight*>(nullptr), rows);
  }
}

template <class Id, class Weight>
void HostHook::dispatch_top_k(std::uint32_t layer, const Id* ids, const Weight* weights, std::uint32_t rows) {
  switch (top_k_) {
    case 4:
      return record_rows<4>(layer, ids, weights, rows);
    case 8:
      return record_rows<8>(layer, ids, weights, rows);
    default:
      return record_rows<0>(layer, ids, weights, rows);
  }
}

// K is the top-k where it is known at compile time, which makes a record a few vector stores; 0: any.
template <std::uint32_t K, class Id, class Weight>
void HostHook::record_rows(std::uint32_t layer, const Id* ids, const Weight* weights, std::uint32_t rows) {
  const std::uint32_t k = K != 0 ? K : top_k_;
  const std::uint32_t num_experts = num_experts_;
  std::uint64_t* counts = counts_.data() + std::size_t{layer} * num_experts;
  std::uint32_t taken = 0;
  if (block_.record) {
    taken = static_cast<std::uint32_t>(std::min<std::uint64_t>(ring_.room(rows), rows));
    dropped_ += rows - taken;  // the newest are the ones that go
  }
  const std::uint64_t first = ring_.claim(taken);
  const std::size_t width = K != 0 ? (K + 7) / 8 * 8 : map_.header().route_stride / 8;  // entries of a record
  const auto step = static_cast<std::uint32_t>(block_.step);
  for (std::uint32_t row = 0; row < taken; ++row, ids += k) {
    // Put together here and copied as a whole: the compiler can't know that the slot is nobody else's while it is written.
    std::uint16_t expert[MOETRACE_MAX_TOP_K];
    float weight[MOETRACE_MAX_TOP_K];
    for (std::uint32_t j = 0; j < k; ++j) expert[j] = to_expert(ids[j], num_experts);
    for (std::size_t j = k; j < width; ++j) expert[j] = static_cast<std::uint16_t>(MOETRACE_NO_EXPERT);
    for (std::uint32_t j = 0; j < k; ++j) {
      if constexpr (std::is_same_v<Weight, NoWeight>) {
        weight[j] = std::numeric_limits<float>::quiet_NaN();
      } else {
        weight[j] = to_float(weights[std::size_t{row} * k + j]);
      }
    }
    for (std::size_t j = k; j < width; ++j) weight[j] = 0;

    std::byte* slot = ring_.memory().slot(first + row);
    // {seq, step} stays as it was until the commit; row, layer and flags are the next 8 bytes.
    const std::uint64_t place = row | std::uint64_t{layer} << 32;
    std::memcpy(slot + 8, &place, 8);
    std::memcpy(slot + sizeof(moetrace_route_head), expert, width * sizeof *expert);
    std::memcpy(slot + sizeof(moetrace_route_head) + width * sizeof *expert, weight, width * sizeof *weight);
    ring_.commit(first + row, step);

    for (std::uint32_t j = 0; j < k; ++j) {
      if (expert[j] != MOETRACE_NO_EXPERT) ++counts[expert[j]];
    }
  }
  // Rows that only count, or for which there was no slot.
  for (std::size_t n = 0; n < std::size_t{rows - taken} * k; ++n) {
    if (const std::uint16_t expert = to_expert(ids[n], num_experts); expert != MOETRACE_NO_EXPERT) ++counts[expert];
  }
}

void HostHook::finish_step() {
  open_ = false;
  steps_done_ = block_.step + 1;
  map_.snapshots().write(++snapshots_, {steps_done_, ring_.position(), dropped_});
  if (block_.time_ns - mirrored_ns_ >= kMirrorEveryNs) {
    mirrored_ns_ = block_.time_ns;
    mirror_counts();
  }
}

void HostHook::mirror_counts() {
  VersionedWords<CountsWords>(CountsWords(map_)).write(counts_.size() + 1, [&](std::size_t word) {
    return word == 0 ? steps_done_ : counts_[word - 1];
  });
}

void HostHook::close() {
  if (open_) finish_step();
  mirror_counts();
}

}  // namespace moetrace
