// Puts the rows of a trace file, in the file's order, together into steps that a producer can
// announce.
//
// A hook records a step layer by layer, in ascending order, and every layer has the same rows. So a
// step ends where the file falls out of that shape: a trace in which rows were dropped comes out as
// more steps than it had, and never with a row that wasn't there. Rows of a step: [layer][row],
// each with top_k ids and weights.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "shm/abi.h"

namespace moetrace::cli {

// A row that belongs to a request which nobody can name: the trace then says null.
constexpr std::uint64_t kNamelessRequest = UINT64_MAX;

struct RowKey {
  std::optional<std::uint64_t> request;  // nothing: no request and no position
  std::uint64_t position = 0;            // in the request, or MOETRACE_UNKNOWN_POSITION

  bool operator==(const RowKey&) const = default;
};

// Good only while the receiver runs.
struct ReplayStep {
  std::uint32_t rows = 0;
  std::span<const moetrace_span>
      spans;  // maximal runs of one request's consecutive positions, or unknown ones
  std::span<const std::uint16_t> layers;  // ascending
  std::span<const std::uint32_t> ids;     // [layers][rows][top_k]
  std::span<const float> weights;         // the same
};

class ReplaySteps {
 public:
  struct Limits {
    std::uint32_t top_k = 0;
    std::uint32_t max_rows = 0;  // of a step, at least 1
    std::size_t max_spans = 0;   // of a step, at least 1
    bool falling_position_starts_step =
        false;  // plain logs have nothing else to tell their steps apart
  };
  using Emit = std::function<void(const ReplayStep&)>;

  ReplaySteps(const Limits& limits, Emit emit) : limits_(limits), emit_(std::move(emit)) {}

  // The file's next row; `ids` and `weights` hold top_k each. A kNoExpert id stays one.
  void add(const RowKey& row, std::uint16_t layer, std::span<const std::uint16_t> ids,
           std::span<const float> weights);
  // The step that is open, if any, has no more rows.
  void finish_step();

 private:
  bool fits_here(const RowKey& row, std::uint16_t layer) const;
  bool can_open_layer(std::uint16_t layer) const;
  void cut();
  void start_layer(std::uint16_t layer);
  void append_first_layer_row(const RowKey& row);
  void emit(std::size_t layers);
  bool in_first_layer() const { return layers_.size() == 1; }

  Limits limits_;
  Emit emit_;
  std::vector<RowKey> rows_;           // of every layer of the open step
  std::vector<moetrace_span> spans_;   // of rows_
  std::vector<std::uint16_t> layers_;  // the last one is being filled
  std::size_t filled_ = 0;             // rows of the last layer
  std::vector<std::uint32_t> ids_;
  std::vector<float> weights_;
  std::unordered_map<std::uint64_t, std::uint64_t> last_position_;  // per request, of rows_
};

}  // namespace moetrace::cli
