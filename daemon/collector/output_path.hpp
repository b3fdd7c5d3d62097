// Which file a trace goes to.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "daemon/collector/options.hpp"

namespace moetrace {

// The paths to try, in order, for a trace: the first that is free or already holds it is the one.
std::vector<std::string> output_candidates(const CollectorOptions& options,
                                           const std::string& trace_id, std::uint32_t rank);

// Makes the folder that traces go to. An error if none can be made there.
std::optional<Error> prepare_output(const CollectorOptions& options);

}  // namespace moetrace
