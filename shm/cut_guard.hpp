// Guards reads of a mapped file that another process may truncate at any moment. Without a guard, a
// read after the file's new end raises SIGBUS and ends the collector with all its other traces.
#pragma once

#include <boost/interprocess/mapped_region.hpp>
#include <cstddef>

namespace moetrace {

// While the guard lives, reading a page that lies after the file's end replaces that page, and
// those after it, with private pages of zeros; hit() is true from then on. Bytes that were read
// since hit() last returned false may be zeros.
//
// The first guard of a process installs the SIGBUS handler; a SIGBUS in other memory still ends the
// process. At most 512 guards work at a time; further ones guard nothing. Destroy the guard before
// its region is unmapped.
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
  // In the table that the signal handler searches.
  std::size_t index_ = kNone;
};

}  // namespace moetrace
