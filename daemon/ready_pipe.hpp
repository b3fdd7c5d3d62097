// The descriptor of --ready-fd: lines for the program that started the collector.
#pragma once

#include <string>

#include "shm/file_lock.hpp"

namespace moetrace {

// Never waits for the reader: what the pipe does not take now goes out with a later flush().
class ReadyPipe {
 public:
  // Takes the descriptor over; -1: lines go nowhere.
  explicit ReadyPipe(int fd);

  void write_line(const std::string& line);
  void flush();

 private:
  UniqueFd fd_;
  std::string pending_;
};

}  // namespace moetrace
