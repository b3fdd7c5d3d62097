// libFuzzer: whatever is in a file, compressed or not, or in the two files of a part, the reader
// gives lines or an error, and each line keeps its promises.
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <filesystem>
#include <fstream>
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
  if (line.text.empty()) return;  // a row of a rows file
  Content again;
  std::string_view text = line.text;
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  check(general.parse(text, again));
  check_same(*route, std::get<Route>(again));
}

// Rows up to the end or an error.
uint64_t read_all(const std::string& path, bool runs) {
  auto reader = TraceReader::open(path, {.num_experts = {}, .one_of_two = true, .runs = runs});
  uint64_t rows = 0;
  if (!reader) return rows;
  Limits limits{};
  LineParser general(limits);
  uint64_t number = 0;
  for (;;) {
    const auto line = reader->next();
    if (!line || *line == nullptr) return rows;
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
    if (const auto* run = std::get_if<RowRun>(&(*line)->content)) {
      check(runs && run->size() > 0 && run->layer.size() == run->size());
      check(run->expert_ids.size() == run->size() * limits.top_k);
      check(run->weights.size() == run->expert_ids.size());
      check(std::ranges::is_sorted(run->seq));
      rows += run->size();
      continue;
    }
    if (!(*line)->text.empty()) {
      check((*line)->number > number);
      number = (*line)->number;
    }
    if (std::holds_alternative<Route>((*line)->content)) ++rows;
    check_line(**line, limits, general);
  }
}

// A folder that goes with the program.
struct Folder {
  Folder() : path(std::filesystem::temp_directory_path() / "moetrace-fuzz-XXXXXX") {
    check(::mkdtemp(path.data()) != nullptr);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string path;
};

// Lines, and after them the bytes of a rows file, which begins with four of value 255.
void read_two_files(std::string_view lines, std::string_view rows) {
  static const Folder folder;
  std::ofstream(folder.path + "/t.jsonl", std::ios::binary) << lines;
  std::ofstream(folder.path + "/t.arrows", std::ios::binary) << rows;
  check(read_all(folder.path + "/t.jsonl", false) == read_all(folder.path + "/t.jsonl", true));
  read_all(folder.path + "/t.arrows", true);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const size_t rows = bytes.find("\n\xFF\xFF\xFF\xFF");
  if (rows != std::string_view::npos) {
    read_two_files(bytes.substr(0, rows + 1), bytes.substr(rows + 1));
    return 0;
  }
  const int fd = ::memfd_create("trace", MFD_CLOEXEC);
  check(fd >= 0);
  check(::write(fd, data, size) == static_cast<ssize_t>(size));
  read_all("/proc/self/fd/" + std::to_string(fd), false);
  ::close(fd);
  return 0;
}
