#include "daemon/config/thread_count.hpp"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <thread>

namespace moetrace {
namespace {

constexpr unsigned kCoresAThread = 4;
constexpr unsigned kMostByItself = 4;

// Cores that an affinity mask, such as taskset's, leaves this process.
unsigned usable_cores() {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return static_cast<unsigned>(CPU_COUNT(&set));
  return std::thread::hardware_concurrency();
}

}  // namespace

unsigned ThreadCount::threads() const {
  return count != 0 ? count : std::clamp(usable_cores() / kCoresAThread, 1u, kMostByItself);
}

std::string take_value(const ConfigJson& value, ThreadCount& to) {
  std::string expected =
      "a number from 1 to " + std::to_string(ThreadCount::kMost) + ", or \"auto\"";
  if (value == "auto") {
    to.count = 0;
    return "";
  }
  if (!value.is_number_unsigned() || value < 1 || value > ThreadCount::kMost) return expected;
  to.count = value.get<unsigned>();
  return "";
}

ConfigJson value_json(const ThreadCount& value) {
  if (value.count == 0) return "auto";
  return value.count;
}

ConfigJson variable_json(const std::string& text, const ThreadCount&) {
  unsigned number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || stop != end) return text;
  return number;
}

}  // namespace moetrace
