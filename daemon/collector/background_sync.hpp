// Brings a trace file to the disk in a thread of its own: that may take seconds, and the rings
// would be full by then.
#pragma once

#include <chrono>
#include <future>
#include <optional>

#include "daemon/collector/trace_file.hpp"

namespace moetrace {

class BackgroundSync {
 public:
  // Tries once. `file` belongs to the thread until result() gives something: until then it stays
  // where it is, and only its path(), size() and state() may be asked for.
  void start(TraceFile& file) {
    running_ = std::async(std::launch::async, [&file] { return file.sync(); });
  }
  bool running() const { return running_.valid(); }
  // Whether it worked; nothing as long as it is not over.
  std::optional<bool> result() {
    if (running_.wait_for(std::chrono::seconds(0)) != std::future_status::ready)
      return std::nullopt;
    return running_.get();
  }
  // Also waits when it is destroyed.
  void wait() const {
    if (running_.valid()) running_.wait();
  }

 private:
  std::future<bool> running_;
};

}  // namespace moetrace
