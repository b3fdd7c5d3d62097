// Child processes, as `moetrace run` starts them.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace moetrace {

struct ChildSetup {
  // The program first; looked up in PATH unless it contains a slash.
  std::vector<std::string> arguments;
  // Added to our own.
  std::vector<std::pair<std::string, std::string>> environment;
  // Stays open in the child under its number; -1: none.
  int inherited_fd = -1;
  // A helper gets a session of its own, so that Ctrl-C and the end of the terminal don't reach it.
  // It reads no input, writes its output to standard error, and receives SIGTERM if we die.
  bool helper = false;
};

struct Spawned {
  // -1 if fork or exec failed.
  pid_t pid = -1;
  // Why it failed; 0 if it did not.
  int error_number = 0;
};

// The child starts with all signals unblocked, and with SIGPIPE and SIGXFSZ at their defaults.
Spawned spawn(const ChildSetup& setup);

// From waitpid()'s status: the child's exit code, or 128 + the signal that ended it.
int exit_code_of(int wait_status);

// The path of `program` beside our own executable if it exists there, else its bare name.
std::string sibling_program(const std::string& program);

}  // namespace moetrace
