// The commands that error lines name: exact, to be pasted into a shell.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "trace/trace_lines.hpp"

namespace moetrace::cli {

// Quoted where a shell would read it as something else.
std::string shell_word(std::string_view word);

// The moetraced that goes on with the session's traces, the first of which is in `output`. `once`:
// it ends with the first of them.
std::string drain_command(const std::string& session, const std::string& output, bool once);

// What to do about a trace file that has no end yet: "run: moetraced …" where its ring is there.
std::string how_to_finish(const std::string& file, const trace::Meta& meta);

}  // namespace moetrace::cli
