// Where a run writes, and which files it wrote: its collector names them after the one that was
// asked for.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace moetrace::cli {

class RunOutputs {
 public:
  // Remembers what is there before the run.
  explicit RunOutputs(std::string wanted);

  // Files that are new, or that have changed, since then: `wanted`, then trace.2.jsonl,
  // trace.rank1.jsonl, ….
  std::vector<std::string> written() const;

 private:
  using Stamp = std::pair<std::uintmax_t, std::int64_t>;  // size, time of the last change
  std::map<std::string, Stamp> present() const;
  bool is_ours(const std::string& file_name) const;

  std::string wanted_;
  std::map<std::string, Stamp> before_;
};

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
