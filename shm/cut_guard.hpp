// Reading a mapped file that somebody else may cut at any moment. Without a guard, a touch behind
// the file's new end is a SIGBUS, and the collector would die with all its other traces.
#pragma once

#include <boost/interprocess/mapped_region.hpp>
#include <cstddef>

namespace moetrace {

// As long as it lives, pages of the region that have lost their file are replaced by pages of zeros
// of our own when they are touched, and `hit` says so from then on. What was read since `hit` was
// last false may be zeros instead of the file's bytes.
//
// The first guard of a process takes the SIGBUS handler; a SIGBUS elsewhere ends the process as
// ever. 512 guards at a time; what comes behind them is not guarded. Destroy it before the region
// is unmapped.
class CutGuard {
 public:
  CutGuard() = default;
  explicit CutGuard(const boost::interprocess::mapped_region& region);
  CutGuard(CutGuard&& other) noexcept;
  CutGuard& operator=(CutGuard&& other) noexcept;
  ~CutGuard();

  bool hit() const;

 private:
  static constexpr std::size_t kNone = ~std::size_t{0};
  std::size_t index_ = kNone;  // in the table that the handler looks through
};

}  // namespace moetrace
