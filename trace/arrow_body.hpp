// The body of a record batch of a rows file in, columns out.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "trace/arrow_message.hpp"
#include "trace/errors.hpp"
#include "trace/line_parser.hpp"
#include "trace/trace_lines.hpp"

namespace moetrace::trace {

struct RowsLimits {
  std::uint32_t num_experts = kMaxExperts;  // ids are below
  std::uint32_t num_layers = kMaxLayers;    // layers are below
  // Where layers differ, by layer: top_k and how many ids. Empty: all layers are as above.
  std::vector<LayerLimits> layers = {};
};

// `num_experts`: from meta, else the user's.
RowsLimits rows_limits(const Meta& meta, std::optional<std::uint32_t> num_experts);

// Keeps the columns of one batch, and the room for the next ones.
class RowsBody {
 public:
  RowsBody();
  RowsBody(RowsBody&&) noexcept;
  RowsBody& operator=(RowsBody&&) noexcept;
  ~RowsBody();

  // `body`: aligned to arrow::kAlignment. The columns are valid until the next call, and
  // as long as `body` is. Errors:
  // kBadRows; the message is the "why" alone.
  Result<RowRun> read(std::span<const std::uint8_t> body, const RowsBatchHead& head,
                      const RowsSchema& schema, const RowsLimits& limits);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace moetrace::trace
