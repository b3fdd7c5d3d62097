// Child processes of the benchmark. Each dies with it.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

namespace moetrace::peers {

// Forks; the child runs `body` and exits.
pid_t fork_child(const std::function<void()>& body);

// Starts a program, pinned to `core`, its output in the file `log`.
pid_t start_program(const std::vector<std::string>& words, int core, const std::string& log);

// Runs a program to its end, 10 s at most. Throws std::runtime_error, with its last line, if it
// fails.
void run_program(const std::vector<std::string>& words, int core, const std::string& log);

// Whether the child ends within the time; it is reaped then. `status`: as of waitpid().
bool ends_within(pid_t child, double seconds, int* status = nullptr);

// SIGKILL, and reaps the child.
void kill_child(pid_t child);

// SIGTERM; after 10 s SIGKILL. Reaps the child.
void stop_child(pid_t child);

// The process with this name among the descendants of `ancestor`; 0: none.
pid_t descendant_named(pid_t ancestor, const std::string& name);

}  // namespace moetrace::peers
