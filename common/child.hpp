// Child processes of `moetrace run`.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace moetrace {

struct ChildSetup {
  std::vector<std::string> arguments;  // the program first; looked up in PATH if it has no slash
  std::vector<std::pair<std::string, std::string>> environment;  // beside ours
  int inherited_fd = -1;  // stays open in the child under its number
  // A helper: a session of its own, so that Ctrl-C in the terminal, and its end, are not for it; no
  // input; its output goes to standard error; SIGTERM if we die.
  bool helper = false;
};

struct Spawned {
  pid_t pid = -1;
  int error_number = 0;  // why exec failed; pid is -1 then
};

// The child starts with no signal blocked, and SIGPIPE and SIGXFSZ at their defaults.
Spawned spawn(const ChildSetup& setup);

// How a child ended, from waitpid()'s status: its exit code, or 128 + the signal.
int exit_code_of(int wait_status);

// `program` beside our own executable if it is there, else its bare name.
std::string sibling_program(const std::string& program);

}  // namespace moetrace
