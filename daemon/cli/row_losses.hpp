// What a row's line has that rows as Arrow don't keep.
#pragma once

#include <optional>
#include <string_view>

#include "daemon/cli/losses.hpp"
#include "daemon/cli/trace_writer.hpp"
#include "trace/trace_lines.hpp"

namespace moetrace::cli {

// `place.text` reads as `route`, from which `back` would be made. The two texts differ.
std::optional<Failure> lose_in_row(Losses& losses, const trace::Route& route,
                                   const LinePlace& place, std::string_view back);
// The same for a row of a plain log, of which only the values count.
std::optional<Failure> lose_keys_of_row(Losses& losses, const LinePlace& place);

}  // namespace moetrace::cli
