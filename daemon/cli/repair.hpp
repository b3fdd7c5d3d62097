// Cuts what is unfinished off the end of a trace's files.
#pragma once

#include <string>
#include <vector>

#include "daemon/cli/outcome.hpp"

namespace moetrace::cli {

// `file`: the lines or the rows of a trace, or a plain log. Where a writer was killed, or a copy
// ended early, the last line or message is not whole: it is cut off. Nothing whole is. Returns what
// was done, a line each; none: the ends are whole. A file that a collector writes, and one that is
// damaged before its end, stay as they are and are a failure. `directory`: of rings.
boost::system::result<std::vector<std::string>, Failure> repair(const std::string& file,
                                                                const std::string& directory);

}  // namespace moetrace::cli
