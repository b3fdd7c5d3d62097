// What a subscriber can know about what it did not get.
//
// ZeroMQ drops silently. Each message carries its number per topic and trace, the collector's
// generation, and how many rows were delivered to the file by its end; a gap in the numbers, or
// another collector, is where rows may be missing, and the delivered count says how many.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>

namespace moetrace::cli {

// The part of a message's JSON header that counts.
struct MessageHead {
  std::string trace_id;
  std::uint64_t generation = 0;
  std::uint64_t number = 0;     // of this topic and trace, from 0 in each generation
  std::uint64_t count = 0;      // lines in it
  std::uint64_t delivered = 0;  // rows of the trace, those of this message included
};

class MissedRows {
 public:
  struct Missed {
    std::uint64_t messages = 0;  // those of former collectors' last moments can't be counted
    std::uint64_t rows = 0;      // topic `route` only
    bool any() const { return messages > 0 || rows > 0; }
  };

  // A message has come; returns what is missing between it and the one before. Nothing is missing
  // before the first.
  Missed take(const std::string& topic, const MessageHead& head);
  const Missed& total() const { return total_; }

 private:
  struct Stream {
    std::uint64_t generation = 0;
    std::uint64_t next = 0;
    std::uint64_t delivered = 0;  // rows up to the end of the last message
  };
  std::map<std::pair<std::string, std::string>, Stream> streams_;  // by topic and trace
  Missed total_;
};

}  // namespace moetrace::cli
