// Announces passes: reads the control words, decides what a pass records, and writes its events and
// the host counters. The hooks of CPU and GPU share it.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>

#include "producer/event_writer.hpp"
#include "producer/request_table.hpp"
#include "shm/control_words.hpp"
#include "shm/segment_map.hpp"

namespace moetrace {

// What a hook needs to know of the announced pass.
struct StepBlock {
  std::uint64_t step = 0;
  // 0: nothing is announced.
  std::uint32_t rows = 0;
  // False: the pass is only counted.
  bool record = false;
  // The selected layers.
  moetrace_layer_mask layers{};
  // When its announcement began: CLOCK_MONOTONIC minus created_monotonic_ns of the header.
  std::int64_t time_ns = 0;
  // Number of layers in `layers`.
  std::uint32_t selected = 0;
};

// A view of a pass's spans, from an array or from columns (moetrace_step_begin_columns). Keep the
// data alive as long as the view.
class Spans {
 public:
  Spans() = default;
  Spans(const moetrace_span* array, std::size_t size) : array_(array), size_(size) {}
  template <std::convertible_to<std::span<const moetrace_span>> Array>
  Spans(const Array& array)  // NOLINT: it is one
      : Spans(std::data(array), std::size(array)) {}
  // Arguments as for moetrace_step_begin_columns.
  Spans(std::size_t count, const std::uint64_t* requests, const std::int32_t* starts,
        const std::int32_t* firsts)
      : requests_(requests), starts_(starts), firsts_(firsts), size_(count) {}

  std::size_t size() const { return size_; }
  moetrace_span operator[](std::size_t n) const {
    if (array_ != nullptr) return array_[n];
    return {requests_[n],
            firsts_ == nullptr ? MOETRACE_UNKNOWN_POSITION : static_cast<std::uint64_t>(firsts_[n]),
            static_cast<std::uint32_t>(starts_[n]),
            static_cast<std::uint32_t>(starts_[n + 1] - starts_[n])};
  }

 private:
  const moetrace_span* array_ = nullptr;
  const std::uint64_t* requests_ = nullptr;
  const std::int32_t* starts_ = nullptr;
  const std::int32_t* firsts_ = nullptr;
  std::size_t size_ = 0;
};

class Announcer {
 public:
  Announcer(const SegmentMap& map, EventWriter& events, RequestTable& requests);

  // Announces a pass of `rows` >= 1 real rows. If the control words switch the producer off, the
  // returned block has rows = 0.
  StepBlock announce(std::uint32_t rows, const Spans& spans);
  // Announces a pass that records exactly `layers`, whatever the control words say. For
  // `moetrace replay`.
  StepBlock announce_layers(std::uint32_t rows, const Spans& spans,
                            const moetrace_layer_mask& layers);

  // Event slots that a pass with this many spans takes.
  static std::uint64_t slots_for(std::size_t spans) { return 1 + (spans + 1) / 2; }

  std::uint64_t steps() const { return steps_; }
  std::uint64_t attempted() const { return attempted_; }
  std::uint64_t event_lost() const { return event_lost_; }
  // Marks the producer as closed: the collector then ends the trace as "closed".
  void close();

 private:
  void follow_control();
  bool write_control_event();
  std::int64_t now_ns() const;
  StepBlock write_step(std::int64_t time_ns, std::uint32_t rows, const Spans& spans,
                       const moetrace_layer_mask& layers, bool record);
  void store_counters();

  const SegmentMap& map_;
  EventWriter& events_;
  RequestTable& requests_;
  ControlWords control_;
  std::uint64_t control_version_ = 0;
  bool control_unannounced_ = false;
  std::uint64_t steps_ = 0;
  std::uint64_t attempted_ = 0;
  std::uint64_t event_lost_ = 0;
};

}  // namespace moetrace
