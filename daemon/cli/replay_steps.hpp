// Groups the rows of a trace file, in the file's order, into steps that a producer can announce.
//
// A hook records a step layer by layer, in ascending order, and every layer has the same rows. A
// step ends where the file leaves that shape. So a trace with dropped rows gives more steps than it
// had, but never an additional row. Rows of a step: [layer][row], each with the ids and weights of
// its layer's top-k.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "shm/abi.h"

namespace moetrace::cli {

// The request of a row with a position but without a request: the replayed trace says null.
constexpr std::uint64_t kNamelessRequest = UINT64_MAX;

struct RowKey {
  // Nothing: neither request nor position.
  std::optional<std::uint64_t> request;
  // In the request, or MOETRACE_UNKNOWN_POSITION.
  std::uint64_t position = 0;

  bool operator==(const RowKey&) const = default;
};

// Valid only during the call of Emit.
struct ReplayStep {
  std::uint32_t rows = 0;
  // Maximal runs of one request's consecutive positions, or of its unknown positions.
  std::span<const moetrace_span> spans;
  // Ascending.
  std::span<const std::uint16_t> layers;
  // Of layers[0], [rows][its top-k], then of layers[1], …
  std::span<const std::uint32_t> ids;
  std::span<const float> weights;
};

class ReplaySteps {
 public:
  struct Limits {
    // Of a step; both at least 1.
    std::uint32_t max_rows = 0;
    std::size_t max_spans = 0;
    // For plain logs, which have no step numbers.
    bool falling_position_starts_step = false;
  };
  using Emit = std::function<void(const ReplayStep&)>;

  ReplaySteps(const Limits& limits, Emit emit) : limits_(limits), emit_(std::move(emit)) {}

  // Takes the file's next row; `ids` and `weights` hold the layer's top-k each, the same for all
  // rows of the layer. A kNoExpert id stays unchanged.
  void add(const RowKey& row, std::uint16_t layer, std::span<const std::uint16_t> ids,
           std::span<const float> weights);
  // Ends the open step, if any.
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
  // The open step. Every layer has these rows.
  std::vector<RowKey> rows_;
  // Of rows_.
  std::vector<moetrace_span> spans_;
  // The last one is incomplete: it has filled_ rows.
  std::vector<std::uint16_t> layers_;
  // Where the entries of each of layers_ begin in ids_ and weights_.
  std::vector<std::size_t> begins_;
  std::size_t filled_ = 0;
  std::vector<std::uint32_t> ids_;
  std::vector<float> weights_;
  // Of rows_, by request.
  std::unordered_map<std::uint64_t, std::uint64_t> last_position_;
};

}  // namespace moetrace::cli
