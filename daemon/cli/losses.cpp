#include "daemon/cli/losses.hpp"

#include "common/text.hpp"

namespace moetrace::cli {
namespace {

constexpr const char* kNames[] = {"weights", "request names", "unknown keys",
                                  "lines",   "spelling",      "an unfinished end"};

}  // namespace

std::optional<Failure> Losses::lose(Kind kind, std::uint64_t line, const std::string& what) {
  if (!allowed_) {
    const std::string place = line > 0 ? "line " + std::to_string(line) + ": " : "";
    return Failure{kFailed, file_ + ": " + place + what +
                                " would be lost; give --lossy to convert the file without it"};
  }
  Count& count = counts_[static_cast<std::size_t>(kind)];
  if (count.times++ == 0) count.first_line = line;
  return std::nullopt;
}

std::string Losses::summary() const {
  std::string text;
  for (std::size_t kind = 0; kind < counts_.size(); ++kind) {
    const Count& count = counts_[kind];
    if (count.times == 0) continue;
    text += text.empty() ? "lost: " : ", ";
    text += kNames[kind];
    if (count.first_line == 0) continue;
    text += " of " + counted(count.times, "line") + " (first: line " +
            std::to_string(count.first_line) + ")";
  }
  return text;
}

}  // namespace moetrace::cli
