// Reads a trace file line by line in constant memory.
//
//   auto reader = TraceReader::open(path);
//   if (!reader) return reader.error();
//   for (;;) {
//     auto line = reader->next();
//     if (!line) return line.error();
//     if (*line == nullptr) break;  // the end
//     if (const auto* route = std::get_if<Route>(&(*line)->content)) …
//   }
//
// What it checks: JSON, keys, types, list lengths against top_k, layers and expert ids against
// their ranges. What it leaves to `moetrace verify`: everything that needs two lines.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "plotter/result.hpp"
#include "plotter/trace_lines.hpp"

namespace moetrace::trace {

// A line may be this long: a request id of 255 bytes and 32 experts need about 3 KiB.
constexpr size_t kMaxLineBytes = size_t{16} << 20;

struct ReadOptions {
  // For files whose meta has no num_experts. An error if the meta says something else.
  std::optional<uint32_t> num_experts;
};

class TraceReader {
 public:
  // Opens the file and reads its meta line. Errors: kOpen, kRead, kEmpty, kTornLine, kTooLong,
  // kBadJson, kNoMeta, kBadMeta. Without a number of experts from either side, ids are only checked
  // against kMaxExperts.
  static Result<TraceReader> open(const std::string& path, const ReadOptions& options = {});

  TraceReader(TraceReader&&) noexcept;
  TraceReader& operator=(TraceReader&&) noexcept;
  ~TraceReader();

  // Valid as long as the reader lives.
  [[nodiscard]] const Meta& meta() const;
  // From meta, else from the options.
  [[nodiscard]] std::optional<uint32_t> num_experts() const;

  // The next line after meta, or nullptr at the end of the file. The line and what it points to are
  // valid until the next call. After an error the reader is spent: further calls return the same
  // error. A last line without a newline is kTornLine, whatever is in it.
  Result<const Line*> next();

 private:
  struct Impl;
  explicit TraceReader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moetrace::trace
