// Golden bytes of each ABI version 1.x, kept for ever. If a test fails, the format has changed;
// change the version, too. MOETRACE_GOLDEN_OUT=DIR/ writes the bytes that the code makes now.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

#include "shm/abi.h"
#include "shm/ring.hpp"
#include "shm/shared_lines.hpp"

namespace moetrace {
namespace {

template <class T>
void append(std::string& bytes, const T& value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

moetrace_ring_header header(std::uint16_t minor) {
  moetrace_ring_header h{};
  std::memcpy(h.magic, MOETRACE_RING_MAGIC, 8);
  h.abi_major = MOETRACE_ABI_MAJOR;
  h.abi_minor = minor;
  h.byte_order = MOETRACE_BYTE_ORDER;
  for (int i = 0; i < 16; ++i) h.trace_id[i] = static_cast<std::uint8_t>(0xA0 + i);
  h.ring_bytes = 0x0101;
  h.ctl_bytes = 0x0202;
  h.header_bytes = 0x0303;
  h.route_stride = 0x0404;
  h.top_k = 0x0505;
  h.num_layers = 0x0606;
  h.num_experts = 0x0707;
  h.claimer = MOETRACE_CLAIMER_GPU;
  h.state_offset = 0x0808;
  h.request_offset = 0x0909;
  h.event_offset = 0x0A0A;
  h.route_offset = 0x0B0B;
  h.counts_offset = 0x0C0C;
  h.event_slots = 0x0D0D;
  h.route_slots = 0x0E0E;
  h.request_slots = 0x0F0F;
  h.flags = MOETRACE_HAS_SEED | MOETRACE_ROUTER_RENORMALIZED | MOETRACE_ROUTER_KNOWN;
  h.seed = -1234;
  h.created_realtime_ns = 1'764'302'556'010'000'000;
  h.created_monotonic_ns = 987'654'321;
  h.layers_logged = {{1, 2, 3, 4}};
  h.moe_layers = {{5, 6, 7, 8}};
  h.router_scaling = 2.5;
  h.producer_pid = 0x1010;
  h.sample_every = 0x1111;
  h.rank = 1;
  h.world_size = 2;
  h.tp_rank = 3;
  h.dp_rank = 4;
  h.pp_rank = 5;
  h.ep_rank = 6;
  std::strcpy(h.model_id, "model");
  std::strcpy(h.engine, "engine");
  std::strcpy(h.engine_version, "engine version");
  std::strcpy(h.vllm_version, "vllm version");
  std::strcpy(h.torch_version, "torch version");
  std::strcpy(h.device, "device");
  std::strcpy(h.host, "host");
  std::strcpy(h.router_score, "softmax");
  if (minor >= 2) {
    h.flags |= MOETRACE_ROUTER_BIASED;
    h.router_groups = 8;
    h.router_topk_groups = 4;
    std::strcpy(h.notes, "a note\nanother");
  }
  if (minor >= 3) {
    std::strcpy(h.engine_id, "engine id");
    h.layer_table_offset = 0x1212;
  }
  return h;
}

moetrace_state state(std::uint16_t minor) {
  moetrace_state s{};
  s.host = {.attempted = 1,
            .event_lost = 2,
            .steps = 3,
            .closed = 1,
            .events_claimed = 5,
            .announce_ns = minor >= 2 ? 16u : 0u,
            .hook_ns = minor >= 2 ? 17u : 0u,
            .reserved = 0};
  s.counts = {.version = 6, .steps_done = 7, .reserved = {}};
  if (minor >= 1) s.published = {.routes = 15, .reserved = {}};
  AlternatingLines<MappedLines> snapshots{MappedLines(s.snapshots)};
  snapshots.write({1, {11, 12, 13}});
  snapshots.write({2, {21, 22, 23}});
  return s;
}

moetrace_ctl ctl(std::uint16_t minor) {
  moetrace_ctl c{};
  std::memcpy(c.magic, MOETRACE_CTL_MAGIC, 8);
  c.abi_major = MOETRACE_ABI_MAJOR;
  c.byte_order = MOETRACE_BYTE_ORDER;
  c.trace_id[15] = 0xFF;
  c.route_consumed = 31;
  c.event_consumed = 32;
  c.collector_generation = 33;
  c.collector_pid = 34;
  c.ledger[1] = {.number = 1,
                 .route = 2,
                 .event = 3,
                 .attempted = 4,
                 .filtered = 5,
                 .dropped = 6,
                 .event_lost = 7,
                 .unclaimed = 8};
  c.control = {
      .version = 2, .enabled = 1, .sample_every = 10, .layers = {{9, 10, 11, 12}}, .reserved = {}};
  if (minor >= 4) c.ring_use.high_water = 35;
  return c;
}

moetrace_request_entry request_entry() {
  moetrace_request_entry e{};
  e.number_plus_1 = 41;
  e.begin_event = 42;
  e.end_event = UINT64_MAX;
  e.prompt_tokens = 44;
  e.cached_tokens = MOETRACE_UNKNOWN_TOKENS;
  e.id_bytes = 2;
  std::memcpy(e.id, "r0", 2);
  return e;
}

// A record's payload at the next slot, committed by the real writer.
template <class Event>
void write(RingWriter<MappedRing>& ring, Event event, std::uint32_t upper) {
  const std::uint64_t position = ring.claim(1);
  std::memcpy(ring.memory().slot(position) + 8, reinterpret_cast<const char*>(&event) + 8,
              sizeof event - 8);
  ring.commit(position, upper);
}

std::string events() {
  std::string bytes(8 * 64, '\0');
  std::uint64_t consumed = 0;
  RingWriter<MappedRing> ring(MappedRing(bytes.data(), 64, 8, &consumed), 8);
  const auto head = [](moetrace_event_kind kind, std::uint32_t slots) {
    return std::uint32_t{kind} | slots << 16;
  };
  moetrace_step_event step{};
  step.step = 51, step.time_ns = 52, step.rows = 53, step.spans = 1, step.layers = 54;
  write(ring, step, head(MOETRACE_EVENT_STEP, 2));
  moetrace_span_event span{};
  span.span[0] = {.request = 61, .first_position = 62, .first_row = 63, .rows = 64};
  write(ring, span, head(MOETRACE_EVENT_SPAN, 0));
  moetrace_request_event request{};
  request.request = 71, request.prompt_tokens = 72, request.cached_tokens = 73,
  request.id_bytes = 33;
  std::memcpy(request.id, "0123456789abcdef0123456789ABCDEF", 32);
  write(ring, request, head(MOETRACE_EVENT_REQUEST, 2));
  moetrace_text_event text{};
  text.text[0] = '!';
  write(ring, text, head(MOETRACE_EVENT_TEXT, 0));
  moetrace_request_end_event end{};
  end.request = 81, end.generated_tokens = 82;
  std::strcpy(end.status, "length");
  write(ring, end, head(MOETRACE_EVENT_REQUEST_END, 1));
  moetrace_control_event control{};
  control.from_step = 91, control.enabled = 1, control.sample_every = 92,
  control.layers = {{13, 14, 15, 16}};
  write(ring, control, head(MOETRACE_EVENT_CONTROL, 1));
  return bytes;
}

// Reserved in 1.3, and written by no producer yet.
std::string reserved_events() {
  std::string bytes(4 * 64, '\0');
  std::uint64_t consumed = 0;
  RingWriter<MappedRing> ring(MappedRing(bytes.data(), 64, 4, &consumed), 4);
  moetrace_tokens_event tokens{};
  tokens.request = 101, tokens.first_position = 102, tokens.tokens = 23;
  for (std::uint32_t n = 0; n < 9; ++n) tokens.id[n] = 0x10000 + n;
  write(ring, tokens, MOETRACE_EVENT_TOKENS | 2u << 16);
  moetrace_tokens_more_event more_tokens{};
  for (std::uint32_t n = 0; n < 14; ++n) more_tokens.id[n] = 0x20000 + n;
  write(ring, more_tokens, MOETRACE_EVENT_TOKENS_MORE);
  moetrace_placement_event placement{};
  placement.from_step = 111, placement.layer = 112, placement.slots = 24;
  const auto place = [](auto& slots, std::uint16_t before) {
    for (auto& slot : slots) {
      slot.rank = static_cast<std::uint16_t>(before / 8);
      slot.expert = ++before;
    }
  };
  place(placement.placed, 1000);
  write(ring, placement, MOETRACE_EVENT_PLACEMENT | 2u << 16);
  moetrace_placement_more_event more_placed{};
  place(more_placed.placed, 1010);
  more_placed.placed[13].expert = MOETRACE_NO_EXPERT;
  write(ring, more_placed, MOETRACE_EVENT_PLACEMENT_MORE);
  return bytes;
}

moetrace_layer_entry layer_entry() {
  moetrace_layer_entry entry{};
  entry.experts = 0x1313;
  entry.zero_experts = 0x1414;
  entry.top_k = 0x1515;
  entry.flags = 2 * MOETRACE_LAYER_GROUPS_KNOWN - 1;
  entry.groups = 0x1616;
  entry.topk_groups = 0x1717;
  entry.scaling = 1.5;
  std::strcpy(entry.score, "sqrtsoftplus");
  return entry;
}

std::string routes() {
  std::string bytes(2 * 64, '\0');
  std::uint64_t consumed = 0;
  RingWriter<MappedRing> ring(MappedRing(bytes.data(), 64, 2, &consumed), 2);
  moetrace_route_record record{};
  record.head.row = 0x01020304;
  record.head.layer = 0x0506;
  for (int k = 0; k < 8; ++k) {
    record.expert[k] = static_cast<std::uint16_t>(k < 4 ? 100 + k : MOETRACE_NO_EXPERT);
    record.weight[k] = k < 4 ? 0.5f / static_cast<float>(k + 1) : 0.0f;
  }
  write(ring, record, 0xCAFE);
  write(ring, record, 0xCAFF);
  return bytes;
}

std::string all(std::uint16_t minor) {
  std::string bytes;
  append(bytes, header(minor));
  append(bytes, state(minor));
  append(bytes, request_entry());
  bytes += events();
  bytes += routes();
  append(bytes, ctl(minor));
  if (minor >= 3) {
    append(bytes, layer_entry());
    bytes += reserved_events();
  }
  return bytes;
}

void expect_golden(std::uint16_t minor, const std::string& name) {
  const std::string made = all(minor);
  if (const char* out = std::getenv("MOETRACE_GOLDEN_OUT"))
    std::ofstream(out + name, std::ios::binary) << made;
  std::ifstream file(MOETRACE_TESTDATA "/" + name, std::ios::binary);
  ASSERT_TRUE(file) << "shm/testdata/" << name << " is missing";
  const std::string golden{std::istreambuf_iterator<char>(file), {}};
  ASSERT_EQ(made.size(), golden.size());
  for (std::size_t at = 0; at < golden.size(); ++at) {
    ASSERT_EQ(static_cast<int>(static_cast<unsigned char>(made[at])),
              static_cast<int>(static_cast<unsigned char>(golden[at])))
        << name << ", byte " << at;
  }
}

TEST(AbiGolden, BytesOfVersion1_0NeverChange) {
  expect_golden(0, "abi_v1.bin");
}
TEST(AbiGolden, BytesOfVersion1_1NeverChange) {
  expect_golden(1, "abi_v1_1.bin");
}
TEST(AbiGolden, BytesOfVersion1_2NeverChange) {
  expect_golden(2, "abi_v1_2.bin");
}
TEST(AbiGolden, BytesOfVersion1_3NeverChange) {
  expect_golden(3, "abi_v1_3.bin");
}
TEST(AbiGolden, BytesOfVersion1_4NeverChange) {
  expect_golden(4, "abi_v1_4.bin");
}

}  // namespace
}  // namespace moetrace
