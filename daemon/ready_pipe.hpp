// The pipe of --ready-fd: lines for the program that started the collector.
#pragma once

#include <string>

#include "shm/file_lock.hpp"

namespace moetrace {

// Never waits for the reader: a later flush() writes the bytes that the pipe does not take now.
class ReadyPipe {
 public:
  // Owns the descriptor; -1: lines are dropped.
  explicit ReadyPipe(int fd);

  void write_line(const std::string& line);
  void flush();

 private:
  UniqueFd fd_;
  std::string pending_;
};

}  // namespace moetrace
