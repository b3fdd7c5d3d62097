#include "daemon/collector/plot_jobs.hpp"

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "common/child.hpp"

extern char** environ;

namespace moetrace {

bool PlotJobs::start(const std::vector<std::string>& trace_files, const std::string& output_dir,
                     std::string& why) {
  const std::string program = sibling_program("moetrace-plot");
  std::string files;
  for (const std::string& file : trace_files) files += (files.empty() ? "" : " ") + file;
  std::vector<std::string> words = {program};
  words.insert(words.end(), trace_files.begin(), trace_files.end());
  words.insert(words.end(), {"-o", output_dir});
  std::vector<char*> arguments;
  arguments.reserve(words.size() + 1);
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  // The collector blocks its signals and reads them from a descriptor; a child must not inherit the
  // mask.
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t none;
  ::sigemptyset(&none);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  pid_t pid = -1;
  const int failed =
      ::posix_spawnp(&pid, program.c_str(), nullptr, &attributes, arguments.data(), environ);
  ::posix_spawnattr_destroy(&attributes);
  if (failed != 0) {
    why = program + ": can't start it: " + std::strerror(failed) +
          "; draw later with moetrace-plot " + files;
    return false;
  }
  jobs_.push_back({pid, std::move(files)});
  return true;
}

std::vector<std::string> PlotJobs::reap(bool wait) {
  std::vector<std::string> failures;
  std::erase_if(jobs_, [&](const Job& job) {
    int status = 0;
    if (::waitpid(job.pid, &status, wait ? 0 : WNOHANG) != job.pid) return false;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
      failures.push_back("pictures of " + job.trace_files +
                         ": moetrace-plot failed; run it by hand to see why");
    }
    return true;
  });
  return failures;
}

}  // namespace moetrace
