// Brings a trace file to the disk in a thread of its own: that may take seconds, and the rings
// would be full by then.
#pragma once

#include <chrono>
#include <future>
#include <string>

#include "daemon/collector/trace_file.hpp"

namespace moetrace {

class BackgroundSync {
 public:
  // To be called again and again with the same file until it gives true: all that was appended is
  // on the disk. Until then the file stays where it is; only its path(), size() and state() may be
  // asked for. What fails is tried again.
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
  // Why it failed when it was last tried; or "".
  const std::string& why() const { return why_; }
  // Until no thread has the file. Destruction waits, too.
  void wait() const {
    if (running_.valid()) running_.wait();
  }

 private:
  std::future<bool> running_;
  std::string why_;
};

}  // namespace moetrace
