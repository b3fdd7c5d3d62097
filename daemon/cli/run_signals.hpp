// The signals of one `moetrace run`: COMMAND gets each of them once.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <cstdint>

#include "daemon/cli/group_watch.hpp"
#include "shm/file_lock.hpp"

namespace moetrace::cli {

// COMMAND stays in our process group, so that terminals, shell jobs, pipelines and group signals
// reach it as if it ran alone. Pass on a signal that came to us alone; COMMAND already has one that
// came to the group.
class RunSignals {
 public:
  // From now on signals wait until they are read here.
  RunSignals();

  // Readable when a child has ended; note_children() empties it.
  int child_fd() const { return children_.get(); }
  void note_children() const;
  // Readable when a signal may have to be passed on.
  int command_fd() const { return for_command_.get(); }
  // Readable when a signal asks us to end. Signals that we inherited as ignored, such as SIGHUP
  // under nohup, do not count.
  int interrupt_fd() const { return for_us_.get(); }

  // COMMAND has been started.
  void watch_group() { group_ = GroupWatch::start(); }
  void note_child(pid_t pid) { group_.note_child(pid); }
  // Passes on the signals that came to us alone.
  void pass_on(pid_t command);
  // COMMAND has ended: drops the signals so far, which were for it.
  void end_watch();

  // The signal that asks us to end, or 0.
  int take_interrupt() const;

 private:
  UniqueFd children_;
  UniqueFd for_command_;
  UniqueFd for_us_;
  GroupWatch group_;
  // Signals that the group has, and that we have not read yet.
  std::uint64_t seen_early_ = 0;
};

}  // namespace moetrace::cli
