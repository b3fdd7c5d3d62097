// Hands messages from the collector's thread to the publisher's. Bounded in bytes: a full queue
// refuses, and never makes the collector wait.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "daemon/collector/line_batch.hpp"
#include "shm/file_lock.hpp"

namespace moetrace {

enum class Topic : std::uint8_t { kRoute, kMeta, kStats };
constexpr std::size_t kTopics = 3;

// A trace as its subscribers know it. The publisher's thread alone looks into it.
struct PublishedTrace {
  std::string trace_id;
  std::uint64_t generation = 0;
  std::string meta;                 // the trace's first line; empty: not known yet
  std::uint64_t meta_sent_for = 0;  // how many subscriptions to `meta` have got that line
  Totals totals;                    // as of the last message
  std::array<std::uint64_t, kTopics> next_number{};  // each topic counts from 0
};

struct Message {
  enum class Kind : std::uint8_t { kBegin, kLines };

  Kind kind = Kind::kLines;
  std::shared_ptr<PublishedTrace> trace;
  Topic topic = Topic::kMeta;
  std::uint64_t missed = 0;  // messages of this topic that the queue refused since the last one
  Run run;
  std::string text;  // kBegin: the trace's first line; kLines: the lines
};

class MessageQueue {
 public:
  explicit MessageQueue(std::size_t most_bytes);

  // False if it is full: then `message` is as it was. The begin of a trace always fits, and so does
  // any message where none waits.
  bool push(Message& message);
  // The oldest message; nothing if there is none.
  std::optional<Message> pop();
  // To be called after the last push. Makes `descriptor` readable for good.
  void close();
  bool closed() const;

  // Readable as long as there is something to pop.
  int descriptor() const { return event_.get(); }

 private:
  void wake() const;

  const std::size_t most_bytes_;
  mutable std::mutex mutex_;
  std::deque<Message> messages_;
  std::size_t bytes_ = 0;
  bool closed_ = false;
  UniqueFd event_;
};

}  // namespace moetrace
