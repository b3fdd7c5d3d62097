#include "engine/progress.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace moetrace::engine {

namespace {

constexpr int kWidth = 30;  // characters of the bar
// Faster than the eye follows, yet too rare to cost anything.
constexpr auto kEvery = std::chrono::milliseconds(100);

}  // namespace

Progress::Progress(std::string label, std::string unit, int64_t total)
    : label_(std::move(label)),
      unit_(std::move(unit)),
      total_(std::max<int64_t>(total, 1)),
      on_terminal_(::isatty(STDERR_FILENO) == 1),
      started_(std::chrono::steady_clock::now()),
      shown_(started_) {}

Progress::~Progress() {
  if (on_terminal_) std::fputs("\r\033[K", stderr);
}

void Progress::show(int64_t done) {
  const auto now = std::chrono::steady_clock::now();
  if (!on_terminal_ || now - shown_ < kEvery) return;
  shown_ = now;
  const double seconds = std::chrono::duration<double>(now - started_).count();
  const int filled = static_cast<int>(std::clamp<int64_t>(done * kWidth / total_, 0, kWidth));
  const std::string bar = std::string(filled, '#') + std::string(kWidth - filled, '.');
  std::fprintf(stderr, "\r%s [%s] %lld/%lld %s, %.0f s\033[K", label_.c_str(), bar.c_str(),
               static_cast<long long>(done), static_cast<long long>(total_), unit_.c_str(),
               seconds);
  std::fflush(stderr);
}

}  // namespace moetrace::engine
