// Names of output files and folders, with placeholders for what a trace says about itself:
//   {model}  the model's name
//   {host}   the engine's host
//   {rank}   its rank
//   {trace}  the trace id
//   {date}   the day on which the trace began, in UTC: 2026-12-31
// "{{" stands for "{", and "}}" for "}". All of them come from the ring's header, so a restarted
// collector finds the files again.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace moetrace {

struct TraceLabels {
  std::string trace_id;
  std::uint32_t rank = 0;
  // Unknown if empty.
  std::string model = {};
  std::string host = {};
  std::int64_t created_realtime_ns = 0;
};

// Why the text is not a template, with what to try; or "".
std::string template_error(std::string_view text);

bool has_placeholders(std::string_view text);

// {rank} or {trace}: two ranks of one engine never get one name.
bool tells_ranks_apart(std::string_view text);

// The name. A value never adds a folder, nor makes a hidden file: '/', control characters, bytes
// that are not UTF-8, and a dot at its beginning become '_'; it has at most 100 bytes. What is
// unknown is "unknown".
std::string fill_template(std::string_view text, const TraceLabels& labels);

// The folder of the file that the template names, as far as it has no placeholders. "." if the name
// has no folder.
std::string fixed_folder(std::string_view text);

// The template of this very name.
std::string template_of(std::string_view name);

}  // namespace moetrace
