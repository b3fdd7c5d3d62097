// The command `moetrace-engine generate`.
#pragma once

#include <cstdint>
#include <filesystem>

#include "engine/errors.hpp"
#include "engine/model.hpp"

namespace moetrace::engine {

struct GenerateArguments {
  std::filesystem::path model;
  std::filesystem::path prompts;
  int64_t max_new_tokens = 128;
  int64_t batch = 32;
  int64_t seed = 1234;
  Device device = Device::kCpu;
  std::filesystem::path output;  // empty: standard output
  bool compare = false;
  std::filesystem::path timing;  // empty: timing.json with --compare, else no file
};

// Writes the texts and the timing, and prints a summary line to standard error.
Result<void> generate_command(const GenerateArguments& arguments);

}  // namespace moetrace::engine
