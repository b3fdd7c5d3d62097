// The signals of one `moetrace run`: COMMAND gets each of them once.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <cstdint>

#include "daemon/cli/group_watch.hpp"
#include "shm/file_lock.hpp"

namespace moetrace::cli {

// COMMAND stays in our process group, so that the terminal, a shell's jobs, pipelines and signals
// to the group find it as if it ran alone. So a signal to the group is not passed on: COMMAND has
// it. One to us alone is.
class RunSignals {
 public:
  // From now on they wait until they are asked for.
  RunSignals();

  // Readable when a child has ended; note_children() empties it.
  int child_fd() const { return children_.get(); }
  void note_children() const;
  // Readable when there is something to pass on.
  int command_fd() const { return for_command_.get(); }
  // Readable when a signal asks us to end. Those that we were told to ignore, such as SIGHUP under
  // nohup, do not.
  int interrupt_fd() const { return for_us_.get(); }

  // COMMAND has been started.
  void watch_group() { group_ = GroupWatch::start(); }
  void note_child(pid_t pid) { group_.note_child(pid); }
  // Passes on what was for us alone.
  void pass_on(pid_t command);
  // COMMAND has ended: what was sent until now was for it.
  void end_watch();

  // The signal that asks us to end, or 0.
  int take_interrupt() const;

 private:
  UniqueFd children_;
  UniqueFd for_command_;
  UniqueFd for_us_;
  GroupWatch group_;
  std::uint64_t seen_early_ = 0;  // the group has it, and we have not read it yet
};

}  // namespace moetrace::cli
