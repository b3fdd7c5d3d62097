// The private collector of one `moetrace run`.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "shm/file_lock.hpp"

namespace moetrace::cli {

class RunCollector {
 public:
  RunCollector(std::string directory, std::string session, std::string output,
               std::vector<std::string> publish);

  // Starts moetraced, for the first time or again, and waits until it is ready, or until
  // `interrupt_fd` is readable. Returns why it is not ready, or "".
  std::string start(int interrupt_fd);
  bool running() const { return pid_ > 0; }
  // Sends a signal. note_child() reports the end.
  void send(int number) const;

  // Readable when the collector has written a line; -1 if it does not run.
  int lines_fd() const { return lines_.get(); }
  // Takes the lines so far; never waits.
  void read_lines();
  // The files that it began or continued, in this order, since the first start, without those that
  // --keep has removed.
  const std::vector<std::string>& traces() const { return traces_; }

  // Call it for each reaped child: true if that was the collector.
  bool note_child(pid_t pid, int wait_status);
  // How it ended: "signal 9", "status 1".
  const std::string& how_it_ended() const { return how_it_ended_; }
  bool ended_well() const { return ended_well_; }
  // It did not take a setting, and has printed which one.
  bool refused_settings() const { return refused_settings_; }

 private:
  std::string wait_until_ready(int interrupt_fd);
  void take_line(const std::string& line);

  std::string directory_;
  std::string session_;
  std::string output_;
  std::vector<std::string> publish_;
  pid_t pid_ = -1;
  // The other end of --ready-fd, and the beginning of a line from it.
  UniqueFd lines_;
  std::string unread_;
  bool ready_ = false;
  std::vector<std::string> traces_;
  std::string how_it_ended_;
  bool ended_well_ = false;
  bool refused_settings_ = false;
};

}  // namespace moetrace::cli
