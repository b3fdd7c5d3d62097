// Where a run may write: looked at before COMMAND starts.
#pragma once

#include <string>
#include <vector>

namespace moetrace::cli {

// The folder of a run's trace, made if missing. What was made and is empty in the end is removed.
class TraceFolder {
 public:
  TraceFolder() = default;
  TraceFolder(const TraceFolder&) = delete;
  TraceFolder& operator=(const TraceFolder&) = delete;
  ~TraceFolder();

  // Why no trace can be written to `file`, or "".
  std::string prepare(const std::string& file);

 private:
  std::vector<std::string> made_;  // each in the one before
};

// Why nothing can be drawn into `folder`, which need not be there yet, or "". Makes nothing.
std::string plot_folder_error(const std::string& folder);

}  // namespace moetrace::cli
