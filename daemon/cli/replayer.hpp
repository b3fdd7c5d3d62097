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
  // "": the default ring directory.
  std::string directory;
  // For files that don't say it.
  std::optional<std::uint32_t> num_experts;
  // Nothing: as fast as a collector takes them.
  std::optional<double> rows_per_second;
};

struct ReplayTotals {
  std::string trace_id;
  // Of the file.
  std::uint64_t rows = 0;
  std::uint64_t steps = 0;
  // Rows that found no room in the ring.
  std::uint64_t dropped = 0;
  // Why the replay stopped before the file's end; "": it did not.
  std::string failure;
  // One line about an unfinished line at the file's end; "": none.
  std::string left_out;
};

class Replayer {
 public:
  // Reads the beginning of a trace, or all of a plain log, and creates the segment. The environment
  // sets its session and size.
  static boost::system::result<std::unique_ptr<Replayer>, Failure> open(
      const ReplayOptions& options);

  // Replays the file, up to the first line that can't be replayed.
  ReplayTotals run();
  // One line about the ring; empty if all is well.
  const std::string& warning() const { return warning_; }

 private:
  using Clock = std::chrono::steady_clock;

  Replayer(const ReplayOptions& options, trace::TraceReader reader,
           std::unique_ptr<RingProducer> producer);

  // Takes every line and leaves the last step open. Returns why it stopped early, or "".
  std::string take_lines();
  // Each returns why the line can't be replayed, or "".
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
  // To probe the collector's lock.
  UniqueFd ctl_;
  ReplaySteps steps_;
  // The file's step of the rows in steps_.
  std::optional<std::uint64_t> file_step_;
  // Our request numbers by the file's number, and by the id of a plain log.
  std::unordered_map<std::uint64_t, std::uint64_t> requests_;
  std::unordered_map<std::string, std::uint64_t> plain_requests_;
  std::string warning_;
  ReplayTotals totals_;
  std::uint64_t paced_rows_ = 0;
  Clock::time_point start_;
  bool collector_seen_ = false;
};

}  // namespace moetrace::cli
