#include "daemon/cli/input_progress.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "common/text.hpp"

namespace moetrace::cli {
namespace {

// Characters of the bar.
constexpr std::uint64_t kWidth = 30;
constexpr auto kEvery = std::chrono::milliseconds(100);
constexpr double kMillion = 1e6;

}  // namespace

InputProgress::InputProgress(std::string label, std::uint64_t total)
    : label_(std::move(label)),
      total_(total),
      on_terminal_(::isatty(STDERR_FILENO) == 1),
      started_(Clock::now()),
      shown_(started_) {}

InputProgress::~InputProgress() {
  if (on_terminal_) std::fputs("\r\033[K", stderr);
}

void InputProgress::show(std::uint64_t bytes, std::uint64_t rows) {
  if (!on_terminal_) return;
  const auto now = Clock::now();
  if (now - shown_ < kEvery) return;
  shown_ = now;
  const double seconds = std::chrono::duration<double>(now - started_).count();
  std::string bar;
  if (total_ > 0) {
    const auto filled = static_cast<std::size_t>(std::min(bytes, total_) * kWidth / total_);
    bar = " [" + std::string(filled, '#') + std::string(kWidth - filled, '.') + "]";
  }
  const auto megabytes = [](std::uint64_t count) {
    return grouped(static_cast<std::uint64_t>(static_cast<double>(count) / kMillion));
  };
  std::fprintf(stderr, "\r%s%s %s%s%s MB, %s million rows/s, %.0f s\033[K", label_.c_str(),
               bar.c_str(), megabytes(bytes).c_str(), total_ > 0 ? "/" : "",
               total_ > 0 ? megabytes(total_).c_str() : "",
               decimals(static_cast<double>(rows) / seconds / kMillion, 1).c_str(), seconds);
  std::fflush(stderr);
}

}  // namespace moetrace::cli
