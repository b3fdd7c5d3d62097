// The private collector of one `moetrace run`.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "shm/file_lock.hpp"

namespace moetrace::cli {

class RunCollector {
 public:
  RunCollector(std::string session, std::string output, std::vector<std::string> publish);

  // Starts moetraced and waits until it is ready, or until `interrupt_fd` can be read. Why it
  // isn't, or "".
  std::string start(int interrupt_fd);
  bool running() const { return pid_ > 0; }

  // Readable when it has something to say; -1 if it runs not.
  int lines_fd() const { return lines_.get(); }
  // Takes what it has said so far; never waits.
  void read_lines();
  // The files that it began or went on with, in this order, also before a restart.
  const std::vector<std::string>& traces() const { return traces_; }

  // For SIGCHLD: true once, when it has ended though nobody asked it to.
  bool reap();
  // How it ended: "signal 9", "status 1".
  const std::string& how_it_ended() const { return how_it_ended_; }

  // SIGTERM, and wait for it. What can be read from `interrupt_fd` in the meantime kills it. False
  // if it did not end well.
  bool stop(int interrupt_fd);

 private:
  std::string wait_until_ready(int interrupt_fd);
  void take_line(const std::string& line);
  void note_end(int wait_status);

  std::string session_;
  std::string output_;
  std::vector<std::string> publish_;
  pid_t pid_ = -1;
  UniqueFd lines_;      // of --ready-fd
  std::string unread_;  // the beginning of a line
  bool ready_ = false;
  std::vector<std::string> traces_;
  std::string how_it_ended_;
  bool ended_well_ = false;
};

// Nothing once no segment of the session is left, else how many records its collector has consumed
// of those that are.
std::optional<std::uint64_t> uncollected(const std::string& session);

// Unlinks what no collector has drained: nobody else serves a private session.
void remove_dead_segments(const std::string& session);

}  // namespace moetrace::cli
