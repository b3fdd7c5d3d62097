// The private collector of one `moetrace run`.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "shm/file_lock.hpp"

namespace moetrace::cli {

class RunCollector {
 public:
  RunCollector(std::string session, std::string output, std::vector<std::string> publish);

  // Starts moetraced and waits until it is ready, or until `interrupt_fd` can be read. Why it
  // isn't, or "". Also after one that has ended.
  std::string start(int interrupt_fd);
  bool running() const { return pid_ > 0; }
  // SIGTERM, or `number`. Its end comes through note_child().
  void send(int number) const;

  // Readable when it has something to say; -1 if it does not run.
  int lines_fd() const { return lines_.get(); }
  // Takes what it has said so far; never waits.
  void read_lines();
  // The files that it began or went on with, in this order, also before a restart.
  const std::vector<std::string>& traces() const { return traces_; }

  // Called for each child that was reaped: true if this one was it.
  bool note_child(pid_t pid, int wait_status);
  // How it ended: "signal 9", "status 1".
  const std::string& how_it_ended() const { return how_it_ended_; }
  bool ended_well() const { return ended_well_; }

 private:
  std::string wait_until_ready(int interrupt_fd);
  void take_line(const std::string& line);

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

}  // namespace moetrace::cli
