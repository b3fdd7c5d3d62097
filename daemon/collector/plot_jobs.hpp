// Starts the plotter as a child process for each trace that has ended.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace moetrace {

class PlotJobs {
 public:
  // False if it can't be started; `why` says so.
  bool start(const std::vector<std::string>& trace_files, const std::string& output_dir,
             std::string& why);
  // Takes the ended ones; returns a line for each that failed.
  std::vector<std::string> reap(bool wait);

 private:
  struct Job {
    pid_t pid;
    std::string trace_files;  // as a command line has them
  };
  std::vector<Job> jobs_;
};

}  // namespace moetrace
