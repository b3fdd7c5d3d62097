// libFuzzer: whatever is in a file, the reader gives lines or an error, and each line keeps its
// promises.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "plotter/trace_reader.hpp"

namespace {

using namespace moetrace::trace;

void check(bool holds) {
  if (!holds) std::abort();
}

// Reads every byte that the line points to, and checks what the header promises.
void check_line(const Line& line, const Meta& meta, uint32_t num_experts) {
  check(line.text.find('\n') == std::string_view::npos);
  const auto* route = std::get_if<Route>(&line.content);
  if (route == nullptr) return;
  check(route->expert_ids.size() == meta.top_k && route->weights.size() == meta.top_k);
  for (const uint16_t id : route->expert_ids) check(id < num_experts || id == kNoExpert);
  check(route->layer < meta.num_layers.value_or(kMaxLayers));
  check(route->req_id.value_or("").size() <= line.text.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const int fd = ::memfd_create("trace", MFD_CLOEXEC);
  check(fd >= 0);
  check(::write(fd, data, size) == static_cast<ssize_t>(size));
  auto reader = TraceReader::open("/proc/self/fd/" + std::to_string(fd));
  if (reader) {
    uint64_t number = 1;
    for (;;) {
      const auto line = reader->next();
      if (!line || *line == nullptr) break;
      check((*line)->number == ++number);
      check_line(**line, reader->meta(), reader->num_experts().value_or(kMaxExperts));
    }
  }
  ::close(fd);
  return 0;
}
