// Threads that make the text of line blocks beside the collector's own thread. They start with the
// first block that is worth it. They have the collector's nice value: its own thread would wait for
// nicer ones.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "daemon/collector/line_block.hpp"

namespace moetrace {

class Encoders {
 public:
  // `threads`: with the caller's; at least 1.
  explicit Encoders(unsigned threads) : threads_(threads) {}
  // Every job must have been finished or withdrawn.
  ~Encoders();

  unsigned threads() const { return threads_; }

  // The encoding of a block. Keep both at their addresses until finish() or withdraw().
  class Job {
   public:
    explicit Job(LineBlock& block) : block_(block) {}

   private:
    friend class Encoders;
    LineBlock& block_;
    // Both under the lock: the next chunk that nobody has taken, and how many are done.
    std::size_t next_ = 0;
    std::size_t done_ = 0;
  };

  // The block is closed. The other threads begin with it once older jobs leave them time.
  void begin(Job& job);
  // Works on the job's chunks, too, until all are done.
  void finish(Job& job);
  // Waits until no other thread works on the job. Its text is not complete.
  void withdraw(Job& job);

 private:
  void start_threads();
  void run();
  // Under the lock: the number of a chunk that the caller encodes next.
  std::size_t take_chunk(Job& job);
  void forget(Job& job);

  const unsigned threads_;
  std::mutex lock_;
  std::condition_variable work_;
  std::condition_variable done_;
  // Jobs with chunks that nobody has taken, oldest first.
  std::deque<Job*> jobs_;
  bool stop_ = false;
  std::vector<std::thread> others_;
};

}  // namespace moetrace
