// Syncs a trace file in a thread of its own: a sync may take seconds, in which the rings would
// fill.
#pragma once

#include <chrono>
#include <future>
#include <string>

#include "daemon/collector/trace_file.hpp"

namespace moetrace {

class BackgroundSync {
 public:
  // Call it with the same file until it returns true: every appended byte is on the disk. Until
  // then keep the file at its address and use only its path(), size() and state(). Retries
  // failures.
  bool advance(TraceFile& file) {
    if (!running_.valid()) {
      if (!file.sync_is_due()) return false;
      running_ = std::async(std::launch::async, [&file] { return file.sync(); });
    }
    if (running_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return false;
    const bool done = running_.get();
    why_ = done ? "" : file.error();
    return done;
  }
  // Why the last try failed; or "".
  const std::string& why() const { return why_; }
  // Waits until no thread uses the file. The destructor waits, too.
  void wait() const {
    if (running_.valid()) running_.wait();
  }

 private:
  std::future<bool> running_;
  std::string why_;
};

}  // namespace moetrace
