// Traces in two files, made of the same trace in one.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "trace/arrow_test_writer.hpp"
#include "trace/test_files.hpp"

namespace moetrace::trace {

struct TwoFiles {
  std::string lines;
  std::string rows;
};

struct Split {
  std::size_t rows_a_batch = 2;
  StoredWeights weights = StoredWeights::kFloat32;
  StoredBody body = StoredBody::kZstd;
  bool wide = false;
  std::string file = "t.arrows";
  // Also write what there is, if only a `rows` line, before each step line.
  bool write_at_steps = false;
};

// The rows of `lines`, which are a whole trace or the beginning of one, in a file of their own.
inline TwoFiles split(const std::vector<std::string>& lines, const Split& how = {}) {
  using Json = nlohmann::ordered_json;
  TwoFiles files;
  auto meta = Json::parse(lines.at(0));
  const char* const names[] = {nullptr, "float16", "float32"};
  const char* const weights = names[static_cast<int>(how.weights)];
  meta["rows"] = {{"file", how.file}, {"weights", weights == nullptr ? Json() : Json(weights)}};
  if (how.wide) meta["rows"]["wide"] = true;
  files.lines = meta.dump() + "\n";
  const auto second = Json::parse(lines.at(1));
  const bool late = second["type"] == "base" || second["type"] == "part";
  std::uint64_t next = late ? second["seq"].get<std::uint64_t>() : 0;
  std::uint64_t first = next, delivered = late ? second["delivered_total"].get<std::uint64_t>() : 0;
  std::uint64_t filtered = late ? second["filtered_total"].get<std::uint64_t>() : 0;
  ArrowTestWriter writer({.trace_id = meta["trace_id"],
                          .part = second.value("part", std::uint64_t{1}),
                          .top_k = meta["top_k"],
                          .two_byte_ids = meta["num_experts"] > 256,
                          .wide = how.wide,
                          .weights = how.weights},
                         how.body);
  std::vector<TestRow> rows;
  const auto finish_batch = [&] {
    if (rows.empty() && next == first) return;
    if (!rows.empty()) writer.batch(first, next, delivered, rows);
    rows.clear();
    first = next;
    files.lines += Json{{"type", "rows"},
                        {"seq", next},
                        {"bytes", writer.bytes().size()},
                        {"batches", writer.batches()},
                        {"delivered_total", delivered},
                        {"filtered_total", filtered}}
                       .dump() +
                   "\n";
  };
  for (std::size_t n = 1; n < lines.size(); ++n) {
    auto line = Json::parse(lines[n]);
    if (line["type"] == "route") {
      TestRow row{.step = line["step"], .layer = line["layer"], .seq = line["seq"]};
      if (!line["request"].is_null()) row.request = line["request"];
      if (!line["token_idx"].is_null()) row.token_idx = line["token_idx"];
      for (const auto& id : line["topk_ids"])
        row.ids.push_back(id.is_null() ? kNoExpert : id.get<std::uint16_t>());
      for (const auto& weight : line["topk_weights"]) {
        row.weights.push_back(weight.is_null() ? std::numeric_limits<float>::quiet_NaN()
                                               : weight.get<float>());
      }
      row.ids.resize(meta["top_k"], kNoExpert);  // of a layer with a smaller top-k
      row.weights.resize(meta["top_k"], std::numeric_limits<float>::quiet_NaN());
      filtered += row.seq - next;
      next = row.seq + 1;
      ++delivered;
      rows.push_back(std::move(row));
      if (rows.size() == how.rows_a_batch) finish_batch();
      continue;
    }
    std::uint64_t at = next;
    if (line["type"] == "step") {  // filtered rows leave no later number
      at = line["seq"];
      filtered += at - next;
      next = at;
      if (how.write_at_steps) finish_batch();
    }
    if (line["type"] == "torn" && !line["first_seq"].is_null()) {
      at = line["first_seq"];
      filtered += at - next;
      next = at + line["count"].get<std::uint64_t>();
    }
    if (line["type"] == "end") finish_batch();
    line["at_seq"] = at;
    files.lines += line.dump() + "\n";
  }
  if (rows.empty()) {
    files.rows = writer.bytes();
    return files;
  }
  finish_batch();
  files.rows = writer.bytes();
  return files;
}

}  // namespace moetrace::trace
