// The names that the files of a trace may have.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "daemon/collector/options.hpp"
#include "daemon/collector/output_template.hpp"
#include "shm/errors.hpp"

namespace moetrace {

// Number 1 is the plain name, `trace.jsonl`; then follow `trace.2.jsonl`, `trace.3.jsonl` and so
// on. A second trace for one output takes the next free number, and so does the next part of a
// trace.
class OutputNames {
 public:
  // For a trace whose other labels no template uses.
  OutputNames(const CollectorOptions& options, const std::string& trace_id, std::uint32_t rank)
      : OutputNames(options, TraceLabels{trace_id, rank}) {}
  OutputNames(const CollectorOptions& options, const TraceLabels& labels);

  std::string name(std::uint64_t number) const;
  // The numbers of the existing files, ascending. Empty if the folder does not exist; kPermission
  // or kSystem if it can't be listed.
  Result<std::vector<std::uint64_t>> taken() const;
  // The user gave this very name, so it may be a link.
  bool chosen_by_user(std::uint64_t number) const { return chosen_ && number == 1; }

 private:
  // "." if the name has no folder.
  std::string folder_;
  // With ".rank1" and so on.
  std::string stem_;
  std::string extension_;
  std::string plain_;
  bool chosen_ = false;
};

// Makes the folder of the traces, as far as it has no placeholders. An error if no file can be made
// there, or if the output is a device, a pipe or a folder.
std::optional<Error> prepare_output(const CollectorOptions& options);

}  // namespace moetrace
