#include "daemon/cli/next_step.hpp"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <sstream>

#include "common/child.hpp"
#include "daemon/collector/output_template.hpp"
#include "shm/collector_segment.hpp"
#include "shm/segment_names.hpp"

namespace moetrace::cli {
namespace {

namespace fs = std::filesystem;

// How a shell starts the program next to ours: by its bare name if PATH leads to it.
std::string program_word(const std::string& program) {
  const std::string sibling = sibling_program(program);
  const char* path = std::getenv("PATH");
  std::istringstream folders(path != nullptr ? path : "");
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::string found = (folder.empty() ? "." : folder) + "/" + program;
    if (::access(found.c_str(), X_OK) != 0) continue;
    std::error_code failed;
    return fs::equivalent(found, sibling, failed) ? program : shell_word(sibling);
  }
  return shell_word(sibling);
}

std::string command(const std::string& directory, const std::string& session,
                    const std::string& to) {
  return program_word("moetraced") + " --session " + session + " --directory " +
         shell_word(absolute(directory)) + to + " --publish none";
}

// The segment of a trace, in any session.
std::optional<SegmentName> find_segment(const std::string& directory, const std::string& trace_id) {
  std::error_code failed;
  const fs::directory_iterator end;
  for (fs::directory_iterator entry(directory, failed); !failed && entry != end;
       entry.increment(failed)) {
    const std::string file = entry->path().filename().string();
    const std::string prefix = "moetrace.v1.";
    if (!file.starts_with(prefix)) continue;
    SegmentName name{file.substr(prefix.size(), file.find('.', prefix.size()) - prefix.size()),
                     trace_id};
    if (file == name.ring_file()) return name;
  }
  return std::nullopt;
}

// "<name>", or "<name>.2" and so on.
bool is_numbered(std::string_view stem, const std::string& name) {
  if (!stem.starts_with(name)) return false;
  stem.remove_prefix(name.size());
  return stem.empty() || (stem[0] == '.' && stem.size() > 1 &&
                          stem.find_first_not_of("0123456789", 1) == std::string_view::npos);
}

// Replaces the last `value` in a template.
bool replace_last(std::string& text, const std::string& value, const std::string& placeholder) {
  const std::size_t at = text.rfind(value);
  if (at == std::string::npos) return false;
  text.replace(at, value.size(), placeholder);
  return true;
}

// The options with which a collector finds this file: its folder, or the file of rank 0, or a
// template that gives its name.
std::string output_options(const std::string& file, const std::string& trace_id,
                           std::uint32_t rank) {
  const fs::path path(absolute(file));
  const std::string stem = path.stem().string();
  if (is_numbered(stem, trace_id))
    return " --output-dir " + shell_word(template_of(path.parent_path().string()));
  std::string output = template_of(path.string());
  if (rank > 0) {
    const std::string number = std::to_string(rank);
    static_cast<void>(replace_last(output, ".rank" + number, "") ||
                      replace_last(output, trace_id, "{trace}") ||
                      replace_last(output, number, "{rank}"));
  }
  return " --output " + shell_word(output);
}

}  // namespace

std::string absolute(const std::string& path) {
  std::error_code failed;
  const fs::path whole = fs::absolute(path, failed);
  return failed ? path : whole.lexically_normal().string();
}

std::string shell_word(std::string_view word) {
  const bool plain = !word.empty() && std::all_of(word.begin(), word.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 ||
           std::string_view("_-./:@%+=,").find(static_cast<char>(c)) != std::string_view::npos;
  });
  if (plain) return std::string(word);
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

std::string drain_command(const std::string& directory, const std::string& session,
                          const std::string& output, bool once) {
  // The name of the current folder is taken as it is, braces included.
  const fs::path whole = fs::path(template_of(absolute("."))) / output;
  return command(directory, session, " --output " + shell_word(whole.lexically_normal().string())) +
         (once ? " --once" : "");
}

bool collector_writes(const std::string& directory, const trace::Meta& meta) {
  const auto name = meta.trace_id ? find_segment(directory, *meta.trace_id) : std::nullopt;
  if (!name) return false;
  const auto segment = CollectorSegment::open(directory, *name, CollectorSegment::Access::kObserve);
  return segment && segment->collector_alive();
}

std::string how_to_finish(const std::string& directory, const std::string& file,
                          const trace::Meta& meta) {
  const auto name = meta.trace_id ? find_segment(directory, *meta.trace_id) : std::nullopt;
  if (!name) {
    return "its ring is not in " + directory +
           "; give --directory (or MOETRACE_DIR) if the ring is in another directory; otherwise "
           "the end of the file was cut off, or the ring was lost, and rows may be missing";
  }
  if (collector_writes(directory, meta))
    return "a collector writes it; wait until the trace has ended";
  return "run: " +
         command(directory, name->session,
                 output_options(file, *meta.trace_id, meta.rank.value_or(0))) +
         " --once";
}

}  // namespace moetrace::cli
