// Passes messages from the collector's thread to the publisher's. Bounded in bytes: a full queue
// refuses a message, so the collector never waits.
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

enum class Topic : std::uint8_t { kRoute, kMeta, kStats, kRows };
constexpr std::size_t kTopics = 4;

// A trace as its subscribers know it. Only the publisher's thread uses it.
struct PublishedTrace {
  std::string trace_id;
  std::uint64_t generation = 0;
  // The trace's first line; empty: not known yet.
  std::string meta;
  // How many subscriptions to `meta` have got that line.
  std::uint64_t meta_sent_for = 0;
  // Of the message that says the most.
  RunningTotals totals;
  // Each topic counts from 0.
  std::array<std::uint64_t, kTopics> next_number{};
};

struct Message {
  enum class Kind : std::uint8_t { kBegin, kLines };

  Kind kind = Kind::kLines;
  std::shared_ptr<PublishedTrace> trace;
  Topic topic = Topic::kMeta;
  // Messages of this topic that the queue refused since the last one.
  std::uint64_t missed = 0;
  Run run;
  // kBegin: the trace's first line; kLines: the lines; of kRows: an Arrow stream.
  std::string text;
  // Of kRows: the names of its requests, a JSON object.
  std::string requests;
};

class MessageQueue {
 public:
  explicit MessageQueue(std::size_t most_bytes);

  // False if the queue is full; then `message` is unchanged. kBegin always fits, and an empty queue
  // takes any message.
  bool push(Message& message);
  // The oldest message, or nothing.
  std::optional<Message> pop();
  // Call it after the last push. From then on `descriptor` stays readable.
  void close();
  bool closed() const;

  // Readable while a message waits.
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
