// How fast a trace's files grow.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>

namespace moetrace {

// Over the last ten seconds: long enough for Arrow rows, which are written once a second or in
// batches, short enough to follow a change.
class WriteRate {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr auto kWindow = std::chrono::seconds(10);

  // `bytes`: written so far. Call it about once a second.
  void note(Clock::time_point now, std::uint64_t bytes) {
    looks_.push_back({now, bytes});
    while (looks_.size() > 2 && now - looks_[1].at >= kWindow) looks_.pop_front();
  }
  // 0 before the second look.
  std::uint64_t bytes_an_hour() const {
    if (looks_.size() < 2) return 0;
    const Look& first = looks_.front();
    const Look& last = looks_.back();
    const std::chrono::duration<double, std::ratio<3600>> hours = last.at - first.at;
    if (hours.count() <= 0 || last.bytes <= first.bytes) return 0;
    return static_cast<std::uint64_t>(static_cast<double>(last.bytes - first.bytes) /
                                      hours.count());
  }

 private:
  struct Look {
    Clock::time_point at;
    std::uint64_t bytes;
  };
  std::deque<Look> looks_;
};

}  // namespace moetrace
