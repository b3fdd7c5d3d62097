// Names in the file names of segments and traces.
#pragma once

#include <string_view>

namespace moetrace {

// A session: 1 to 64 letters, digits, '-' and '_', such as "default" or "gpu-3".
bool is_session_name(std::string_view text);

// A trace: a UUID in lower case, with its dashes.
bool is_trace_id(std::string_view text);

}  // namespace moetrace
