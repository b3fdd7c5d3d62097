// How a part stores its rows in a rows file (FORMAT.md, "Rows as Arrow").
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace moetrace {

enum class RowWeights { kFloat32, kFloat16, kNone };

// How the body of a batch is stored. Batches of one file may differ.
enum class RowCompression { kFast, kSmall, kLz4, kNone };

// The columns of a part.
struct RowsForm {
  // 1 to 32: ids and weights of a row.
  std::uint32_t top_k = 1;
  // 1 to 65535: ids are below it.
  std::uint32_t num_experts = 1;
  RowWeights weights = RowWeights::kFloat32;
  // 64 bits instead of 32 for request, step and position.
  bool wide = false;

  bool operator==(const RowsForm&) const = default;
};

// "float32", "float16"; "" for kNone.
std::string_view name_of(RowWeights weights);

// The `meta` line of a part whose rows are in the file `rows_file`, a base name: `meta` with the
// key `rows`.
std::string meta_with_rows(std::string_view meta, const RowsForm& form, std::string_view rows_file);

// What the key `rows` of a `meta` line says.
struct RowsKey {
  std::string file;
  RowsForm form;
};
// Nothing if the line has no such key. An empty `file` if it contradicts itself.
std::optional<RowsKey> rows_key(std::string_view meta);

// The rows file of a trace file: `trace.arrows` of `trace.jsonl`, `trace.arrows.1` of
// `trace.jsonl.1`, `trace.arrows` of any other `trace.*`.
std::string rows_path(const std::string& lines_path);

}  // namespace moetrace
