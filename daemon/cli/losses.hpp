// What a conversion would lose. Without --lossy the first loss ends it; with --lossy they are
// counted.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "daemon/cli/outcome.hpp"

namespace moetrace::cli {

class Losses {
 public:
  // The order of the summary.
  enum class Kind : std::uint8_t {
    kWeights,     // not stored, rounded, or of more digits than a float32 has
    kNames,       // a req_id that is not that of the row's request
    kKeys,        // keys that the output has no place for
    kLines,       // lines that it has no place for, blank ones too
    kSpelling,    // another spelling of the same values
    kUnfinished,  // what is unfinished at the input's end
    kCount
  };

  // `file`: the input, in messages.
  Losses(std::string file, bool allowed) : file_(std::move(file)), allowed_(allowed) {}

  // `line`: its number, or 0 if the loss is not of one line. `what`: such as "its key \"x\"".
  std::optional<Failure> lose(Kind kind, std::uint64_t line, const std::string& what);

  // "lost: the weights of 3 lines (first: line 7), …"; "" if nothing was.
  std::string summary() const;

 private:
  struct Count {
    std::uint64_t times = 0;
    std::uint64_t first_line = 0;
  };

  std::string file_;
  bool allowed_;
  std::array<Count, static_cast<std::size_t>(Kind::kCount)> counts_{};
};

}  // namespace moetrace::cli
