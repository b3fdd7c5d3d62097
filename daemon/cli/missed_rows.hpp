// Counts what a subscriber missed.
//
// ZeroMQ drops silently. Each message carries its number within its topic and trace, the
// collector's generation, and the trace's delivered rows. Rows may be missing at a gap in the
// numbers, or at another generation; the delivered rows say how many.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

namespace moetrace::cli {

// The fields of a message's JSON header that are needed here.
struct MessageHead {
  std::string trace_id;
  std::uint64_t generation = 0;
  // Of this topic and trace; counts from 0 in each generation.
  std::uint64_t number = 0;
  // Lines of the message.
  std::uint64_t count = 0;
  // Rows of the trace, with those of this message.
  std::uint64_t delivered = 0;
};

class MissedRows {
 public:
  struct Missed {
    // Leaves out the last messages of an earlier collector: their number is unknown.
    std::uint64_t messages = 0;
    // Topic `route` only.
    std::uint64_t rows = 0;
    bool any() const { return messages > 0 || rows > 0; }
  };

  // Takes a message and returns what is missing since the message before it. The first message of a
  // stream misses nothing.
  Missed take(const std::string& topic, const MessageHead& head);
  const Missed& total() const { return total_; }

 private:
  struct Stream {
    std::uint64_t generation = 0;
    std::uint64_t next = 0;
    // Rows up to the end of the last message.
    std::uint64_t delivered = 0;
  };
  // By topic and trace.
  std::map<std::pair<std::string, std::string>, Stream> streams_;
  Missed total_;
};

}  // namespace moetrace::cli
