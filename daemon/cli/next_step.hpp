// The commands that error lines name, ready to be pasted into a shell.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "trace/trace_lines.hpp"

namespace moetrace::cli {

// The word, quoted if a shell would change it.
std::string shell_word(std::string_view word);

// The path from the root. Error lines name it, because the reader may stand in another folder.
std::string absolute(const std::string& path);

// The moetraced command that continues the session's traces; the first of them is in `output`.
// `once`: end with the first trace.
std::string drain_command(const std::string& directory, const std::string& session,
                          const std::string& output, bool once);

// Whether a collector serves the ring of this trace, if that is in `directory`.
bool collector_writes(const std::string& directory, const trace::Meta& meta);

// What to do about a trace file without an `end` line: "run: moetraced …" if its ring is in
// `directory`.
std::string how_to_finish(const std::string& directory, const std::string& file,
                          const trace::Meta& meta);

}  // namespace moetrace::cli
