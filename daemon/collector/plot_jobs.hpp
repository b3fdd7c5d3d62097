// Runs the plotter as a child process for each trace that has ended.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace moetrace {

class PlotJobs {
 public:
  // False if it can't be started; then `why` is an error line.
  bool start(const std::vector<std::string>& trace_files, const std::string& output_dir,
             std::string& why);
  // Reaps the ended jobs; returns a line for each failed one.
  std::vector<std::string> reap(bool wait);

 private:
  struct Job {
    pid_t pid;
    // As on a command line.
    std::string trace_files;
  };
  std::vector<Job> jobs_;
};

}  // namespace moetrace
