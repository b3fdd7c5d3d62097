// A progress bar on standard error, if that is a terminal: how much of the input has been read.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace moetrace::cli {

class InputProgress {
 public:
  // `total`: bytes of the input; 0: not known.
  InputProgress(std::string label, std::uint64_t total);
  // Clears the line.
  ~InputProgress();
  InputProgress(const InputProgress&) = delete;
  InputProgress& operator=(const InputProgress&) = delete;

  // After `rows` rows, and `bytes` of the input.
  void show(std::uint64_t bytes, std::uint64_t rows);

 private:
  using Clock = std::chrono::steady_clock;

  std::string label_;
  std::uint64_t total_;
  bool on_terminal_;
  Clock::time_point started_;
  Clock::time_point shown_;
};

}  // namespace moetrace::cli
