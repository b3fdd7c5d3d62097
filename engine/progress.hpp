// A progress bar on standard error, if that is a terminal.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace moetrace::engine {

class Progress {
 public:
  Progress(std::string label, std::string unit, int64_t total);
  ~Progress();  // clears the line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void show(int64_t done);

 private:
  std::string label_;
  std::string unit_;
  int64_t total_;
  bool on_terminal_;
  std::chrono::steady_clock::time_point started_;
  std::chrono::steady_clock::time_point shown_;
};

}  // namespace moetrace::engine
