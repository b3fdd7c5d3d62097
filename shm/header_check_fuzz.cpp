// libFuzzer: hostile bytes as a ring header and its layer table. Each part of a header that
// check_header() accepts must lie within the file, and the layers must fit the header.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "shm/header_check.hpp"
#include "shm/layer_table.hpp"
#include "shm/route_layout.hpp"

namespace {

// An independent computation in 128 bits, in which no product or sum can wrap.
void expect_inside(std::uint64_t offset, std::uint64_t count, std::uint64_t stride,
                   std::uint64_t file_bytes) {
  if (static_cast<unsigned __int128>(offset) + static_cast<unsigned __int128>(count) * stride >
      file_bytes)
    std::abort();
}

// Takes the entries from the end of the input.
void expect_layers_fit(const moetrace_ring_header& h, const std::uint8_t* data, std::size_t size) {
  std::vector<moetrace_layer_entry> entries(h.num_layers);
  const std::size_t bytes = std::min(size, entries.size() * sizeof entries[0]);
  std::memcpy(entries.data(), data + size - bytes, bytes);
  if (moetrace::check_layer_table(h, entries)) return;
  const moetrace::LayerTable table(h, entries);
  for (std::uint32_t layer = 0; layer < h.num_layers; ++layer) {
    if (table.top_k_of(layer) == 0 || table.top_k_of(layer) > h.top_k) std::abort();
    if (table.ids_of(layer) == 0 || table.ids_of(layer) > h.num_experts) std::abort();
    if (!std::isfinite(table.entry(layer).scaling)) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::uint64_t file_bytes = 0;
  if (size < sizeof file_bytes) return 0;
  std::memcpy(&file_bytes, data, sizeof file_bytes);
  moetrace_ring_header h{};
  const std::size_t rest = size - sizeof file_bytes;
  std::memcpy(&h, data + sizeof file_bytes, rest < sizeof h ? rest : sizeof h);
  // Mostly set the fields with only one valid value, so that the fuzzer reaches the other checks.
  if (size % 8 != 0) {
    h.byte_order = MOETRACE_BYTE_ORDER;
    h.header_bytes = sizeof h;
    h.ctl_bytes = sizeof(moetrace_ctl);
    h.ring_bytes = file_bytes;
    h.route_stride = moetrace::RouteLayout::of_top_k(h.top_k % 33).stride();
  }
  moetrace::terminate_strings(h);
  if (moetrace::check_header(h, file_bytes)) return 0;
  expect_inside(h.state_offset, 1, sizeof(moetrace_state), file_bytes);
  expect_inside(h.request_offset, h.request_slots, sizeof(moetrace_request_entry), file_bytes);
  expect_inside(h.event_offset, h.event_slots, 64, file_bytes);
  expect_inside(h.route_offset, h.route_slots, h.route_stride, file_bytes);
  expect_inside(h.counts_offset, std::uint64_t{h.num_layers} * h.num_experts, 8, file_bytes);
  if (moetrace::layer_table_offset(h) != 0)
    expect_inside(h.layer_table_offset, h.num_layers, sizeof(moetrace_layer_entry), file_bytes);
  if (std::strlen(h.host) >= sizeof h.host) std::abort();
  expect_layers_fit(h, data + sizeof file_bytes, rest);
  return 0;
}
