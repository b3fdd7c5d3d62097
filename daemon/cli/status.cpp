// moetrace status: the live segments and their counters.
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "common/text.hpp"
#include "daemon/cli/commands.hpp"
#include "daemon/cli/ring_lag.hpp"
#include "daemon/cli/segments.hpp"
#include "daemon/endpoints.hpp"
#include "shm/layer_mask.hpp"
#include "shm/session_claim.hpp"
#include "shm/written.hpp"

namespace moetrace::cli {
namespace {

struct StatusOptions {
  SegmentFilter filter;
  bool json = false;
};

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : " ") + part;
  return text;
}

bool collector_runs(const CollectorSegment& segment, const std::string& directory) {
  return SessionClaim::held(directory, segment.name().session) || segment.collector_alive();
}

// Leaves out the endpoints of a collector that serves another ring directory.
std::vector<std::string> served_endpoints(const CollectorSegment& segment,
                                          const std::string& directory) {
  if (!collector_runs(segment, directory)) return {};
  return read_endpoints(segment.name().session);
}

nlohmann::ordered_json cost_json(const std::optional<Cost>& cost) {
  nlohmann::ordered_json out = {{"announce_ns", nullptr}, {"hook_ns", nullptr}};
  if (cost) {
    out["announce_ns"] = cost->announce_ns;
    out["hook_ns"] = cost->hook_ns;
  }
  return out;
}

// 1.2 ms in announcements, 0.8 ms in the hook; 3.1 us a step
std::string cost_text(const SegmentCounters& counters) {
  if (!counters.cost) return "unknown (producer older than ABI 1.2)";
  const auto announce = static_cast<double>(counters.cost->announce_ns);
  const auto hook = static_cast<double>(counters.cost->hook_ns);
  std::string text = decimals(announce / 1e6, 1) + " ms in announcements, " +
                     decimals(hook / 1e6, 1) + " ms in the hook";
  if (counters.steps > 0) {
    text += "; " + decimals((announce + hook) / 1e3 / static_cast<double>(counters.steps), 2) +
            " us a step";
  }
  return text;
}

void add_lag(nlohmann::ordered_json& out, const RingLag& lag) {
  out["high_water"] = nullptr;
  out["high_water_percent"] = nullptr;
  if (lag.high_water) {
    out["high_water"] = *lag.high_water;
    out["high_water_percent"] =
        100 * static_cast<double>(*lag.high_water) / static_cast<double>(lag.slots);
  }
  out["lag_rows"] = lag.rows;
  out["lag_bytes"] = lag.bytes;
  out["lag_seconds"] = nullptr;
  if (lag.seconds) out["lag_seconds"] = *lag.seconds;
}

// Until recording stops at --max-total-size; nothing without that, or while nothing is written.
std::optional<double> seconds_until_full(const Written& written) {
  if (!written.room || written.total_bytes_an_hour == 0) return std::nullopt;
  return 3600 * static_cast<double>(*written.room) /
         static_cast<double>(written.total_bytes_an_hour);
}

// 1.24 GB written, 4.30 GB an hour, 4 encoder threads; max-total-size in 22.5 h
std::string files_text(const std::optional<Written>& written, bool collected) {
  if (!written) return collected ? "nothing written yet" : "none";
  const auto gb = [](std::uint64_t bytes) {
    return decimals(static_cast<double>(bytes) / 1e9, 2) + " GB";
  };
  std::string text = gb(written->bytes) + " written";
  if (!collected) return text + ", no collector writes it now";
  text += ", " + gb(written->bytes_an_hour) + " an hour";
  if (written->encoder_threads > 0)
    text += ", " + counted(written->encoder_threads, "encoder thread");
  if (written->room == 0) return text + "; max-total-size is reached";
  if (const auto seconds = seconds_until_full(*written))
    text += "; max-total-size in " + decimals(*seconds / 3600, 1) + " h";
  return text;
}

nlohmann::ordered_json files_json(const std::optional<Written>& written, bool collected) {
  nlohmann::ordered_json out = {{"written_bytes", nullptr},
                                {"bytes_an_hour", nullptr},
                                {"room_bytes", nullptr},
                                {"seconds_until_full", nullptr},
                                {"encoder_threads", nullptr}};
  if (!written) return out;
  out["written_bytes"] = written->bytes;
  if (!collected) return out;
  out["bytes_an_hour"] = written->bytes_an_hour;
  if (written->encoder_threads > 0) out["encoder_threads"] = written->encoder_threads;
  if (written->room) out["room_bytes"] = *written->room;
  if (const auto seconds = seconds_until_full(*written)) out["seconds_until_full"] = *seconds;
  return out;
}

nlohmann::ordered_json layers_json(const moetrace_layer_mask& layers) {
  auto list = nlohmann::ordered_json::array();
  for (std::uint32_t layer = 0; layer < MOETRACE_MAX_LAYERS; ++layer) {
    if (has_layer(layers, layer)) list.push_back(layer);
  }
  return list;
}

nlohmann::ordered_json to_json(const CollectorSegment& segment, const std::string& directory) {
  const moetrace_ring_header& header = segment.map().header();
  const SegmentCounters counters = read_counters(segment);
  const auto text = [](const char* value) {
    return *value == '\0' ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(value);
  };
  nlohmann::ordered_json out;
  out["session"] = segment.name().session;
  out["trace_id"] = segment.name().trace_id;
  out["model_id"] = text(header.model_id);
  out["engine"] = text(header.engine);
  out["engine_version"] = text(header.engine_version);
  out["rank"] = header.rank;
  out["pid"] = header.producer_pid;
  out["producer"] = counters.closed ? "closed" : segment.producer_alive() ? "alive" : "dead";
  out["collector"] = segment.collector_alive() ? "attached" : "none";
  out["collector_generation"] = counters.generation;
  const ControlWords words = control_words(segment);
  out["enabled"] = words.enabled;
  out["layers"] = layers_json(words.layers);
  out["sample_every"] = words.sample_every;
  out["steps"] = counters.steps;
  out["attempted"] = counters.attempted;
  out["recorded"] = counters.recorded;
  out["consumed"] = counters.consumed;
  out["dropped"] = counters.dropped;
  out["event_lost"] = counters.event_lost;
  out["ring_slots"] = header.route_slots;
  out["ring_fill_percent"] = 100 * counters.fill(header.route_slots);
  out["files"] = files_json(read_written(segment.map()), segment.collector_alive());
  out["cost"] = cost_json(counters.cost);
  out["endpoints"] = served_endpoints(segment, directory);
  add_lag(out, read_ring_lag(segment));
  return out;
}

std::string endpoint_text(const CollectorSegment& segment, const std::string& directory) {
  const std::vector<std::string> endpoints = served_endpoints(segment, directory);
  if (!endpoints.empty()) return joined(endpoints);
  return collector_runs(segment, directory) ? "none" : "none, no collector runs";
}

// Nine lines a segment, each below 100 columns except a list of many layers.
void print(const CollectorSegment& segment, const std::string& directory) {
  const moetrace_ring_header& header = segment.map().header();
  const SegmentCounters counters = read_counters(segment);
  const auto known = [](const char* value) {
    return *value == '\0' ? std::string("unknown") : std::string(value);
  };
  const std::string producer = counters.closed            ? "closed"
                               : segment.producer_alive() ? "alive"
                                                          : "dead";
  const std::string engine =
      known(header.engine) + (*header.engine_version == '\0' ? "" : " ") + header.engine_version;
  const std::string collector =
      (segment.collector_alive() ? "attached" : "none") +
      (counters.generation == 0 ? std::string(", none was attached before")
                                : ", generation " + std::to_string(counters.generation));
  std::printf("%s  session %s, rank %u of %u\n", segment.name().trace_id.c_str(),
              shortened(segment.name().session, 32).c_str(), header.rank, header.world_size);
  std::printf("  model      %-40s  engine %s, pid %u %s\n",
              shortened(known(header.model_id), 40).c_str(), shortened(engine, 22).c_str(),
              header.producer_pid, producer.c_str());
  std::printf("  recording  %s\n", describe(control_words(segment)).c_str());
  std::printf("  rows       %s attempted, %s recorded, %s consumed, %s dropped\n",
              grouped(counters.attempted).c_str(), grouped(counters.recorded).c_str(),
              grouped(counters.consumed).c_str(), grouped(counters.dropped).c_str());
  std::printf("  ring       %s, %s of %s slots full, collector %s\n",
              counted(counters.steps, "step").c_str(),
              percent(counters.fill(header.route_slots)).c_str(),
              grouped(header.route_slots).c_str(), collector.c_str());
  std::printf("  lag        %s\n", describe(read_ring_lag(segment)).c_str());
  std::printf("  files      %s\n",
              files_text(read_written(segment.map()), segment.collector_alive()).c_str());
  std::printf("  cost       %s\n", cost_text(counters).c_str());
  std::printf("  endpoint   %s\n", endpoint_text(segment, directory).c_str());
}

Outcome status(const StatusOptions& options) {
  const auto opened = open_segments(options.filter);
  if (!opened) return opened.error();
  const std::string directory = ring_directory(options.filter.directory);
  auto list = nlohmann::ordered_json::array();
  for (const CollectorSegment& segment : opened->segments) {
    if (options.json) {
      list.push_back(to_json(segment, directory));
    } else {
      print(segment, directory);
    }
  }
  if (options.json) {
    std::printf("%s\n",
                list.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
  }
  std::fflush(stdout);
  return report_unusable(*opened);
}

}  // namespace

void add_status(CLI::App& app, Command& chosen) {
  auto* sub = app.add_subcommand("status", "Show the rings, what they record, and their counters");
  auto options = std::make_shared<StatusOptions>();
  sub->add_option("--session", options->filter.session, "Only this session; without it, all");
  sub->add_option("--trace", options->filter.trace, "Only the traces whose id begins like this");
  add_directory_option(sub, options->filter.directory);
  sub->add_flag("--json", options->json, "Print a JSON list");
  sub->callback([options, &chosen] { chosen = [options] { return status(*options); }; });
}

}  // namespace moetrace::cli
