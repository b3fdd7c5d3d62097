// libFuzzer: whatever is in a file, compressed or not, the reader gives lines or an error, and each
// line keeps its promises.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <string>

#include "trace/line_parser.hpp"
#include "trace/trace_reader.hpp"

namespace {

using namespace moetrace::trace;

void check(bool holds) {
  if (!holds) std::abort();
}

bool same_bits(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b);
}

void check_same(const Route& a, const Route& b) {
  check(a.req_id == b.req_id && a.token_idx == b.token_idx && a.layer == b.layer);
  check(a.request == b.request && a.step == b.step && a.seq == b.seq);
  check(std::ranges::equal(a.expert_ids, b.expert_ids));
  check(std::ranges::equal(a.weights, b.weights, same_bits));
}

void check_line(const Line& line, const Limits& limits, LineParser& general) {
  check(line.text.find('\n') == std::string_view::npos);
  const auto* route = std::get_if<Route>(&line.content);
  if (route == nullptr) return;
  check(route->layer < limits.num_layers);
  const uint32_t top_k = limits.top_k_of(route->layer);
  check(top_k <= limits.top_k && limits.ids_of(route->layer) <= limits.num_experts);
  check(route->expert_ids.size() == top_k && route->weights.size() == top_k);
  for (const uint16_t id : route->expert_ids)
    check(id < limits.ids_of(route->layer) || id == kNoExpert);
  Content again;
  std::string_view text = line.text;
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  check(general.parse(text, again));
  check_same(*route, std::get<Route>(again));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const int fd = ::memfd_create("trace", MFD_CLOEXEC);
  check(fd >= 0);
  check(::write(fd, data, size) == static_cast<ssize_t>(size));
  auto reader = TraceReader::open("/proc/self/fd/" + std::to_string(fd));
  if (reader) {
    Limits limits{};
    LineParser general(limits);
    uint64_t number = 0;
    for (;;) {
      const auto line = reader->next();
      if (!line || *line == nullptr) break;
      // Meta lines may come between the others.
      const Meta& meta = reader->meta();
      limits = {.top_k = meta.top_k,
                .num_experts = reader->num_experts().value_or(kMaxExperts),
                .num_layers = meta.num_layers.value_or(kMaxLayers),
                .plain = meta.plain()};
      for (const LayerMeta& layer : meta.layers.value_or(std::vector<LayerMeta>())) {
        limits.layers[layer.layer] = {.top_k = meta.top_k_of(layer.layer),
                                      .ids = meta.ids_of(layer.layer).value_or(0)};
      }
      general.set_limits(limits);
      check((*line)->number > number);
      number = (*line)->number;
      check_line(**line, limits, general);
    }
  }
  ::close(fd);
  return 0;
}
