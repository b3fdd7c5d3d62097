// Sends a trace file through a ring, as a producer.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "daemon/cli/outcome.hpp"
#include "daemon/cli/replay_steps.hpp"
#include "producer/ring_producer.hpp"
#include "trace/trace_reader.hpp"

namespace moetrace::cli {

struct ReplayOptions {
  std::string file;
  std::optional<std::uint32_t> num_experts;  // for files that don't say it
  std::optional<double> rows_per_second;     // nothing: as fast as a collector takes them
};

struct ReplayTotals {
  std::string trace_id;
  std::uint64_t rows = 0;  // of the file
  std::uint64_t steps = 0;
  std::uint64_t dropped = 0;  // rows that found no room
  std::string failure;        // why the rest of the file was not replayed; "": all of it was
  std::string left_out;       // at the file's end, because it is unfinished: a line; "": nothing
};

class Replayer {
 public:
  // Reads the file's beginning, of a plain log all of it, and creates the segment (directory,
  // session and ring size from the environment).
  static boost::system::result<std::unique_ptr<Replayer>, Failure> open(
      const ReplayOptions& options);

  // The whole file, or what stands before a line that can't be replayed.
  ReplayTotals run();
  // One line about the ring; may be empty.
  const std::string& warning() const { return warning_; }

 private:
  using Clock = std::chrono::steady_clock;

  Replayer(const ReplayOptions& options, trace::TraceReader reader,
           std::unique_ptr<RingProducer> producer);

  // Every line, the last step still open. Says why it ended before the file did, or "".
  std::string take_lines();
  // Each says why the line can't be replayed, or "".
  std::string take(const trace::Route& route);
  std::string take(const trace::Request& request);
  std::string take(const trace::RequestEnd& end);
  std::string take(const trace::Step& step);
  template <class Other>
  std::string take(const Other&) {
    return {};
  }

  std::string row_key(const trace::Route& route, RowKey& key);
  std::uint64_t plain_request(std::string_view id);
  std::uint64_t begin_request(std::string_view id, std::optional<std::uint64_t> prompt_tokens,
                              std::optional<std::uint64_t> cached_tokens);
  void send(const ReplayStep& batch);
  template <class Fits>
  void wait_for_room(Fits fits);
  bool collector_may_come();
  void keep_pace(std::uint32_t rows);

  ReplayOptions options_;
  trace::TraceReader reader_;
  std::unique_ptr<RingProducer> producer_;
  UniqueFd ctl_;  // to ask for the collector's lock
  std::uint32_t top_k_;
  ReplaySteps steps_;
  std::optional<std::uint64_t> file_step_;                         // of the rows in steps_
  std::unordered_map<std::uint64_t, std::uint64_t> requests_;      // the file's number -> ours
  std::unordered_map<std::string, std::uint64_t> plain_requests_;  // id -> ours
  std::string warning_;
  ReplayTotals totals_;
  std::uint64_t paced_rows_ = 0;
  Clock::time_point start_;
  bool collector_seen_ = false;
};

}  // namespace moetrace::cli
