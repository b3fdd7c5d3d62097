// The names that the files of a trace may have.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "daemon/collector/options.hpp"

namespace moetrace {

// Number 1 is the plain name, `trace.jsonl`; further ones are `trace.2.jsonl`, `trace.3.jsonl` and
// so on. A second trace for one output takes the next free number, and so does a further part of a
// trace.
class OutputNames {
 public:
  OutputNames(const CollectorOptions& options, const std::string& trace_id, std::uint32_t rank);

  std::string name(std::uint64_t number) const;
  // The numbers whose names are taken, ascending. kPermission or kSystem if the folder can't be
  // listed; none if it does not exist.
  Result<std::vector<std::uint64_t>> taken() const;
  // The user gave this very name, so a link may stand there.
  bool chosen_by_user(std::uint64_t number) const { return chosen_ && number == 1; }

 private:
  std::string folder_;  // "." if the name has none
  std::string stem_;    // with the mark of the rank
  std::string extension_;
  std::string plain_;
  bool chosen_ = false;
};

// Makes the folder that traces go to. An error if none can be made there, or if the output is a
// device, a pipe or a folder.
std::optional<Error> prepare_output(const CollectorOptions& options);

}  // namespace moetrace
