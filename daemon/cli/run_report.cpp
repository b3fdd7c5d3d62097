#include "daemon/cli/run_report.hpp"

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "common/text.hpp"
#include "daemon/cli/next_step.hpp"
#include "trace/trace_reader.hpp"
#include "trace/verify_files.hpp"

namespace moetrace::cli {
namespace {

std::string cost_text(const trace::TraceSummary& summary) {
  if (!summary.cost_ns) return "";
  return "; the hook took " + decimals(*summary.cost_ns / 1e6, 1) + " ms of the engine's time";
}

std::string ring_text(const RingLeft& ring, const std::string& command) {
  if (!ring.unusable.empty()) return ring.unusable;
  if (ring.pid) {
    return ring.path + ": its engine, pid " + std::to_string(*ring.pid) +
           ", still runs, and its trace is not complete; collect the rest with: " + command;
  }
  const std::string rows = ring.rows > 0 ? "holds " + counted(ring.rows, "row") + " that are"
                                         : std::string("holds the end of a trace that is");
  return ring.path + ": " + rows +
         " in no file, because the collector failed; fix the cause above, then run: " + command;
}

// Then the line about the ring covers this file, too.
bool has_ring(const std::string& file, const std::vector<RingLeft>& left) {
  const auto reader = trace::TraceReader::open(file, {.num_experts = {}, .one_of_two = true});
  return reader && std::any_of(left.begin(), left.end(), [&](const RingLeft& ring) {
           return reader->meta().trace_id == ring.trace_id;
         });
}

bool report_file(const std::string& directory, const std::string& file) {
  const auto next_step = [&](const std::string& path, const trace::Meta& meta) {
    return how_to_finish(directory, path, meta);
  };
  const auto summary = trace::verify_trace(file, next_step);
  if (!summary) {
    say(summary.error().message + "; " + trace::what_to_try(summary.error()));
    return false;
  }
  std::error_code failed;
  const auto bytes = static_cast<double>(std::filesystem::file_size(file, failed));
  say(file + ": " + counted(summary->rows, "row") + " of " + counted(summary->requests, "request") +
      " in " + counted(summary->layers.count(), "layer") + ", " + grouped(summary->dropped) +
      " dropped, " + decimals(bytes / 1e6, 1) + " MB, verified" + cost_text(*summary));
  return true;
}

}  // namespace

void say(const std::string& line) {
  std::fprintf(stderr, "moetrace: %s\n", line.c_str());
}

bool report_run(const std::string& directory, const std::string& session, const std::string& output,
                const std::vector<std::string>& files, const std::vector<RingLeft>& left) {
  if (files.empty() && left.empty()) {
    say("run: no trace, because COMMAND made no ring; look for an error of COMMAND, or for a line "
        "that begins with \"moetrace:\" or \"moetrace-engine:\", it says why; install the moetrace "
        "package in the engine's environment; check that the model has MoE layers; add --wait "
        "before -- if COMMAND starts its engine in the background");
    return false;
  }
  // With --once, engines that still run would lose their collector after the first trace.
  const bool once =
      left.size() == 1 ||
      std::none_of(left.begin(), left.end(), [](const auto& ring) { return ring.pid.has_value(); });
  const std::string command = drain_command(directory, session, output, once);
  for (const RingLeft& ring : left) say(ring_text(ring, command));
  bool good = left.empty();
  for (const std::string& file : files) {
    if (!left.empty() && has_ring(file, left)) continue;
    good = report_file(directory, file) && good;
  }
  return good;
}

}  // namespace moetrace::cli
