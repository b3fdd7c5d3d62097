// Contradictions in a trace that come from the engine, not from the collector.
//
// `moetrace verify` calls it an error where a line cannot be a collector's, whatever the producer
// said. Where a producer can have said it, the line is right and gets a warning.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moetrace::trace {

enum class Strange : std::uint8_t {
  kExpertTwice,
  kNegativeWeight,
  kLayerNotSelected,
  kStepNotSelected,
  kTimeGoesBack,
  kMoreCachedThanPrompt,
  kGenerated,
  kUnknownStatus,
  kRequestNotEnded,
  kPlainLogOfTrace,
  kCount,  // not one of them
};

class Warnings {
 public:
  // The next warnings are about this row of a rows file, after the line of their number; nothing:
  // about the line.
  void at_row(std::optional<std::uint64_t> seq) { row_ = seq; }
  // Only the first of each kind is put into words: `text()` says what it is. Line 0: the whole
  // file.
  template <class Text>
  void add(Strange kind, std::uint64_t line, Text text, std::uint64_t times = 1) {
    Found& found = found_.at(static_cast<std::size_t>(kind));
    if (found.times == 0 && times > 0) {
      found.line = line;
      found.text =
          row_ ? "the row with seq " + std::to_string(*row_) + " after it: " + text() : text();
    }
    found.times += times;
  }

  // One line each, "line N: what; why", in the order of their kinds.
  std::vector<std::string> lines() const;

 private:
  struct Found {
    std::uint64_t times = 0;
    std::uint64_t line = 0;
    std::string text;
  };
  std::optional<std::uint64_t> row_;
  std::array<Found, static_cast<std::size_t>(Strange::kCount)> found_;
};

}  // namespace moetrace::trace
