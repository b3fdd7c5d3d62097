#include "shm/header_check.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <limits>

namespace moetrace {
namespace {

constexpr std::uint64_t kFile = 4096 * 8;

// A header that is right: parts of one page each, in order.
moetrace_ring_header good() {
  moetrace_ring_header h{};
  h.abi_minor = 3;
  h.byte_order = MOETRACE_BYTE_ORDER;
  h.ring_bytes = kFile;
  h.ctl_bytes = sizeof(moetrace_ctl);
  h.header_bytes = sizeof(moetrace_ring_header);
  h.route_stride = 64;
  h.top_k = 8;
  h.num_layers = 2;
  h.num_experts = 60;
  h.state_offset = 4096;
  h.request_offset = 4096 * 2;
  h.event_offset = 4096 * 3;
  h.route_offset = 4096 * 4;
  h.counts_offset = 4096 * 5;
  h.layer_table_offset = 4096 * 6;
  h.event_slots = 64;
  h.route_slots = 64;
  h.request_slots = 12;
  h.layers_logged.words[0] = 3;
  h.moe_layers.words[0] = 3;
  h.router_scaling = 1;
  return h;
}

TEST(HeaderCheck, AcceptsAGoodHeader) {
  EXPECT_EQ(check_header(good(), kFile), std::nullopt);
}

struct Corruption {
  const char* name;
  std::function<void(moetrace_ring_header&)> corrupt;
  const char* words;  // of the message
};

class Corrupted : public ::testing::TestWithParam<Corruption> {};

TEST_P(Corrupted, IsRefusedByName) {
  moetrace_ring_header h = good();
  GetParam().corrupt(h);
  const auto wrong = check_header(h, kFile);
  ASSERT_TRUE(wrong);
  EXPECT_NE(wrong->find(GetParam().words), std::string::npos) << *wrong;
}

using H = moetrace_ring_header;
constexpr std::uint64_t kHuge = std::numeric_limits<std::uint64_t>::max();
INSTANTIATE_TEST_SUITE_P(
    EachField, Corrupted,
    ::testing::Values(
        Corruption{"byte_order", [](H& h) { h.byte_order = 0x04030201; }, "byte order"},
        Corruption{"header_bytes", [](H& h) { h.header_bytes = 64; }, "header_bytes"},
        Corruption{"ring_bytes", [](H& h) { ++h.ring_bytes; }, "its header states"},
        Corruption{"ctl_bytes", [](H& h) { h.ctl_bytes = 0; }, "ctl_bytes"},
        Corruption{"top_k_0", [](H& h) { h.top_k = 0; }, "top_k"},
        Corruption{"top_k_33", [](H& h) { h.top_k = 33, h.route_stride = 320; }, "top_k"},
        Corruption{"stride", [](H& h) { h.route_stride = 128; }, "route_stride"},
        Corruption{"stride_0", [](H& h) { h.route_stride = 0; }, "route_stride"},
        Corruption{"layers_0", [](H& h) { h.num_layers = 0; }, "num_layers"},
        Corruption{"layers_257", [](H& h) { h.num_layers = 257; }, "num_layers"},
        Corruption{"experts_0", [](H& h) { h.num_experts = 0; }, "num_experts"},
        Corruption{"experts_65536", [](H& h) { h.num_experts = 65536; }, "num_experts"},
        Corruption{"layers_logged", [](H& h) { h.layers_logged.words[0] = 4; },
                   "names layer 2, but"},
        Corruption{"moe_layers", [](H& h) { h.moe_layers.words[3] = 1ull << 63; },
                   "names layer 255, but"},
        Corruption{"claimer", [](H& h) { h.claimer = 2; }, "claimer"},
        Corruption{"route_slots_0", [](H& h) { h.route_slots = 0; }, "route_slots"},
        Corruption{"route_slots_63", [](H& h) { h.route_slots = 63; }, "route_slots"},
        Corruption{"route_slots_huge", [](H& h) { h.route_slots = 1ull << 63; }, "route_slots"},
        Corruption{"route_slots_too_many", [](H& h) { h.route_slots = 1u << 31; },
                   "route ring ends after"},
        Corruption{"event_slots_0", [](H& h) { h.event_slots = 0; }, "event_slots"},
        Corruption{"event_slots_65", [](H& h) { h.event_slots = 65; }, "event_slots"},
        Corruption{"event_slots_overlap", [](H& h) { h.event_slots = 128; }, "route ring overlaps"},
        Corruption{"request_slots", [](H& h) { h.request_slots = 13; }, "event ring overlaps"},
        Corruption{"request_slots_huge", [](H& h) { h.request_slots = 0xFFFFFFFF; },
                   "request table ends after"},
        Corruption{"experts_behind_end", [](H& h) { h.num_experts = 65535; }, "counts ends after"},
        Corruption{"state_in_header", [](H& h) { h.state_offset = 0; }, "state overlaps"},
        Corruption{"state_huge", [](H& h) { h.state_offset = kHuge - 63; }, "state ends after"},
        Corruption{"request_unaligned", [](H& h) { h.request_offset += 8; },
                   "request table is not aligned"},
        Corruption{"request_in_state", [](H& h) { h.request_offset -= 64; },
                   "request table overlaps"},
        Corruption{"event_huge", [](H& h) { h.event_offset = kHuge - 63; },
                   "event ring ends after"},
        Corruption{"route_behind", [](H& h) { h.route_offset = kFile - 64; },
                   "route ring ends after"},
        Corruption{"counts_unaligned", [](H& h) { ++h.counts_offset; }, "counts is not aligned"},
        Corruption{"counts_huge", [](H& h) { h.counts_offset = kHuge - 63; }, "counts ends after"},
        Corruption{"layer_table_unaligned", [](H& h) { h.layer_table_offset += 8; },
                   "layer table is not aligned"},
        Corruption{"layer_table_in_counts", [](H& h) { h.layer_table_offset = h.counts_offset; },
                   "layer table overlaps"},
        Corruption{"layer_table_huge", [](H& h) { h.layer_table_offset = kHuge - 63; },
                   "layer table ends after"},
        Corruption{"layer_table_half_outside", [](H& h) { h.layer_table_offset = kFile - 64; },
                   "layer table ends after"},
        Corruption{"realtime", [](H& h) { h.created_realtime_ns = -1; }, "1970"},
        Corruption{"monotonic",
                   [](H& h) { h.created_monotonic_ns = std::numeric_limits<std::int64_t>::min(); },
                   "1970"},
        Corruption{"scaling",
                   [](H& h) { h.router_scaling = std::numeric_limits<double>::infinity(); },
                   "router_scaling"}),
    [](const auto& param) { return param.param.name; });

TEST(HeaderCheck, ALayerTableIsOptionalAndOfVersion1_3) {
  moetrace_ring_header h = good();
  h.layer_table_offset = 0;
  EXPECT_EQ(check_header(h, kFile), std::nullopt);
  h.layer_table_offset = 8;
  h.abi_minor = 2;
  EXPECT_EQ(check_header(h, kFile), std::nullopt) << "reserved bytes of a producer before 1.3";
  EXPECT_EQ(layer_table_offset(h), 0u);
}

using Entry = moetrace_layer_entry;

// A layer in which every value is known.
Entry good_entry() {
  Entry entry{};
  entry.experts = 50;
  entry.zero_experts = 10;
  entry.top_k = 8;
  entry.flags = 2 * MOETRACE_LAYER_GROUPS_KNOWN - 1;
  entry.groups = 8;
  entry.topk_groups = 4;
  entry.scaling = 2.5;
  return entry;
}

TEST(LayerTableCheck, AcceptsKnownAndUnknownLayers) {
  const Entry entries[] = {good_entry(), Entry{}};
  EXPECT_EQ(check_layer_table(good(), entries), std::nullopt);
  EXPECT_EQ(check_layer_table(good(), {}), std::nullopt);
}

struct WrongEntry {
  const char* name;
  std::function<void(Entry&)> corrupt;
  const char* words;  // of the message
};

class CorruptedLayer : public ::testing::TestWithParam<WrongEntry> {};

TEST_P(CorruptedLayer, IsRefusedByName) {
  Entry entries[] = {good_entry(), good_entry()};
  GetParam().corrupt(entries[1]);
  const auto wrong = check_layer_table(good(), entries);
  ASSERT_TRUE(wrong);
  EXPECT_EQ(*wrong, std::string("layer table, layer 1: ") + GetParam().words);
}

constexpr const char* kUnmarked = "a value is set whose flag does not mark it as known";
constexpr const char* kGroups = "expected 1 <= topk_groups <= groups <= 65535";
INSTANTIATE_TEST_SUITE_P(
    EachField, CorruptedLayer,
    ::testing::Values(
        WrongEntry{"top_k", [](Entry& e) { e.top_k = 9; }, "top_k is 9; expected at most 8"},
        WrongEntry{"experts", [](Entry& e) { e.experts = 51; },
                   "experts + zero_experts is 61; expected at most 60"},
        WrongEntry{"experts_wrap", [](Entry& e) { e.experts = 0xFFFFFFFF; },
                   "experts + zero_experts is 4294967305; expected at most 60"},
        WrongEntry{"zero_experts", [](Entry& e) { e.zero_experts = 11; },
                   "experts + zero_experts is 61; expected at most 60"},
        WrongEntry{"renormalized", [](Entry& e) { e.flags &= ~MOETRACE_LAYER_RENORMALIZED_KNOWN; },
                   kUnmarked},
        WrongEntry{"biased", [](Entry& e) { e.flags &= ~MOETRACE_LAYER_BIASED_KNOWN; }, kUnmarked},
        WrongEntry{"table", [](Entry& e) { e.flags &= ~MOETRACE_LAYER_TABLE_KNOWN; }, kUnmarked},
        WrongEntry{"zero", [](Entry& e) { e.flags &= ~MOETRACE_LAYER_ZERO_EXPERTS_KNOWN; },
                   kUnmarked},
        WrongEntry{"scaling", [](Entry& e) { e.flags &= ~MOETRACE_LAYER_SCALING_KNOWN; },
                   kUnmarked},
        WrongEntry{"groups", [](Entry& e) { e.flags &= ~MOETRACE_LAYER_GROUPS_KNOWN; }, kUnmarked},
        WrongEntry{"topk_groups_unmarked",
                   [](Entry& e) { e.flags &= ~MOETRACE_LAYER_GROUPS_KNOWN, e.groups = 0; },
                   kUnmarked},
        WrongEntry{"topk_groups", [](Entry& e) { e.topk_groups = 9; }, kGroups},
        WrongEntry{"topk_groups_0", [](Entry& e) { e.topk_groups = 0; }, kGroups},
        WrongEntry{"groups_huge", [](Entry& e) { e.groups = 65536; }, kGroups},
        WrongEntry{"scaling_infinite",
                   [](Entry& e) { e.scaling = std::numeric_limits<double>::infinity(); },
                   "scaling is not finite"}),
    [](const auto& param) { return param.param.name; });

TEST(HeaderCheck, StringsAreEnded) {
  moetrace_ring_header h;
  std::memset(&h, 'x', sizeof h);
  terminate_strings(h);
  EXPECT_EQ(std::strlen(h.model_id), 255u);
  EXPECT_EQ(std::strlen(h.engine), 63u);
  EXPECT_EQ(std::strlen(h.engine_version), 63u);
  EXPECT_EQ(std::strlen(h.vllm_version), 63u);
  EXPECT_EQ(std::strlen(h.torch_version), 63u);
  EXPECT_EQ(std::strlen(h.device), 63u);
  EXPECT_EQ(std::strlen(h.host), 255u);
  EXPECT_EQ(std::strlen(h.router_score), 31u);
  EXPECT_EQ(std::strlen(h.engine_id), 63u);
  moetrace_layer_entry entry;
  std::memset(&entry, 'x', sizeof entry);
  terminate_strings(entry);
  EXPECT_EQ(std::strlen(entry.score), 23u);
}

}  // namespace
}  // namespace moetrace
