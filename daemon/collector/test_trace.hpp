// A producer, a ring directory and a trace file for tests of the collector.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "daemon/collector/segment_drain.hpp"
#include "producer/ring_producer.hpp"
#include "shm/layer_mask.hpp"
#include "shm/ledger.hpp"
#include "shm/test_directory.hpp"

namespace moetrace {

inline constexpr std::uint32_t kTestLayers = 2;
inline constexpr std::uint32_t kTestTopK = 2;

// Small enough to be copied thousands of times.
inline Settings test_settings(const TestDirectory& directory, std::uint64_t route_slots = 64) {
  moetrace_options options;
  moetrace_options_init(&options, sizeof options);
  options.directory = directory.path().c_str();
  options.num_layers = kTestLayers;
  options.num_experts = 8;
  options.top_k = kTestTopK;
  options.model_id = "test/model";
  Settings settings = *resolve_settings(options);
  settings.sizes = {.route_slots = route_slots, .event_slots = 64, .request_slots = 4};
  return settings;
}

// One pass of one request: announces rows [position, position + rows) in all layers; records the
// first `layers` of them.
inline void run_step(RingProducer& producer, std::uint64_t request, std::uint64_t position,
                     std::uint32_t rows, std::uint32_t layers = kTestLayers) {
  const moetrace_span span{request, position, 0, rows};
  producer.begin_step(rows, {&span, 1});
  std::vector<std::int32_t> ids;
  std::vector<float> weights;
  for (std::uint32_t i = 0; i < rows * kTestTopK; ++i) {
    ids.push_back(static_cast<std::int32_t>((position + i) % 8));
    weights.push_back(1.0f / static_cast<float>(position + i + 3));
  }
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    producer.hook().record(layer, ids.data(), MOETRACE_INT32, weights.data(), MOETRACE_FLOAT32,
                           rows);
  }
}

inline constexpr moetrace_layer_mask kEveryLayer{{~0ull, ~0ull, ~0ull, ~0ull}};

inline PartStart part_start(const SegmentMap& map, const std::string& trace_id) {
  return {trace_id, 1, meta_line(map.header(), map.layers(), trace_id), std::nullopt};
}

inline Result<std::unique_ptr<SegmentDrain>> attach(
    const TestDirectory& directory, const SegmentName& name, const std::string& path,
    const moetrace_layer_mask& filter = kEveryLayer) {
  auto segment = CollectorSegment::open(directory.path(), name, CollectorSegment::Access::kCollect);
  if (!segment) return segment.error();
  CollectorOptions options;
  options.output = path;
  const OutputNames names(options, name.trace_id, 0);
  const auto ledger = read_ledger(segment->map());
  auto place = place_trace(names, part_start(segment->map(), name.trace_id),
                           {segment->map().ctl()->route_consumed, ledger ? ledger->filtered : 0});
  if (!place) return place.error();
  return SegmentDrain::attach(std::move(*segment), std::move(*place), {.layers = filter},
                              [](const LineBatch&) {});
}

// As if the collector had died after its writes and before it gave the slots back: `before` is the
// control page of that time.
inline void take_positions_back(const SegmentMap& map, const moetrace_ctl& before) {
  map.ctl()->route_consumed = before.route_consumed;
  map.ctl()->event_consumed = before.event_consumed;
  std::copy(std::begin(before.ledger), std::end(before.ledger), std::begin(map.ctl()->ledger));
}

// Passes until the drain is idle or the trace has ended.
inline Result<SegmentDrain::State> drain(SegmentDrain& drain) {
  while (true) {
    const auto state = drain.pass();
    if (state && *state == SegmentDrain::State::kSyncing) {
      drain.wait_for_disk();
    } else if (!state || *state != SegmentDrain::State::kBusy) {
      return state;
    }
  }
}

inline std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

inline void write_text(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
}

inline std::vector<nlohmann::json> read_lines(const std::string& path) {
  std::vector<nlohmann::json> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

inline std::vector<nlohmann::json> lines_of(const std::string& path, const std::string& type) {
  std::vector<nlohmann::json> lines = read_lines(path);
  std::erase_if(lines, [&](const nlohmann::json& line) { return line.at("type") != type; });
  return lines;
}

// Conservation, which must hold in every ended trace.
inline void expect_conservation(const nlohmann::json& end) {
  EXPECT_EQ(end.at("attempted").get<std::uint64_t>(),
            end.at("delivered").get<std::uint64_t>() + end.at("filtered").get<std::uint64_t>() +
                end.at("dropped").get<std::uint64_t>() + end.at("torn").get<std::uint64_t>());
}

}  // namespace moetrace
