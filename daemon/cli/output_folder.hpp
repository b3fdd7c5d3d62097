// Checks where a run may write, before COMMAND starts.
#pragma once

#include <string>
#include <vector>

namespace moetrace::cli {

// The folder of a run's trace, made if missing. Removes the folders that it made and that stay
// empty.
class TraceFolder {
 public:
  TraceFolder() = default;
  TraceFolder(const TraceFolder&) = delete;
  TraceFolder& operator=(const TraceFolder&) = delete;
  ~TraceFolder();

  // Why no trace can be written to `file`, or "".
  std::string prepare(const std::string& file);

 private:
  // Each lies in the one before.
  std::vector<std::string> made_;
};

// Why no picture can be drawn into `folder`, which may be missing, or "". Makes nothing.
std::string plot_folder_error(const std::string& folder);

}  // namespace moetrace::cli
