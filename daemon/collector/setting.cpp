#include "daemon/collector/setting.hpp"

#include <algorithm>
#include <cstdlib>

#include "common/names.hpp"
#include "daemon/collector/output_template.hpp"
#include "daemon/endpoint_text.hpp"
#include "shm/segment_names.hpp"

namespace moetrace {
namespace {

using Options = CollectorOptions;

std::string wrong_session(const Options& options) {
  return is_session_name(options.session) ? "" : "use 1 to 64 letters, digits, '-' and '_'";
}

// Less would be a part for every write.
constexpr std::uint64_t kLeastFileSize = 64 << 10;
// Some ring would never fit: the smallest has 4 MiB (size_limit.hpp).
constexpr std::uint64_t kLeastTotalSize = 8 << 20;

std::string wrong_file_size(const Options& options) {
  const std::uint64_t bytes = options.max_file_size.bytes;
  return bytes == 0 || bytes >= kLeastFileSize ? "" : "use at least 64K";
}

std::string wrong_total_size(const Options& options) {
  const std::uint64_t bytes = options.max_total_size.bytes;
  return bytes == 0 || bytes >= kLeastTotalSize
             ? ""
             : "use at least 8M: less than that is kept free for the rows of a ring and for the "
               "end of its trace";
}

}  // namespace

const std::vector<Setting>& collector_settings() {
  static const std::vector<Setting> settings = {
      {.key = "session",
       .variable = "MOETRACE_SESSION",
       .member = &Options::session,
       .on_reload = OnReload::kKept,
       .help = "collect the rings of this session",
       .wrong = wrong_session},
      {.key = "directory",
       .variable = "MOETRACE_DIR",
       .member = &Options::directory,
       .on_reload = OnReload::kKept,
       .help = "the ring directory",
       .shown_default = "/run/moetrace if it can be written, else /dev/shm"},
      {.key = "output_dir",
       .variable = "MOETRACE_OUTPUT_DIR",
       .member = &Options::output_dir,
       .on_reload = OnReload::kForNewTraces,
       .help = "write <trace id>.jsonl into this folder; {model}, {host}, {rank}, {trace} and "
               "{date} stand for the trace's own",
       .shown_default = "$STATE_DIRECTORY, else the current directory",
       .wrong = [](const Options& options) { return template_error(options.output_dir); },
       .excludes = "output"},
      {.key = "output",
       .variable = "MOETRACE_OUTPUT",
       .member = &Options::output,
       .on_reload = OnReload::kForNewTraces,
       .help =
           "write the trace to this file, with {model}, ... as in output_dir; without {rank} or "
           "{trace}, other ranks go to <name>.rank1.jsonl, ...",
       .shown_default = "none",
       .wrong = [](const Options& options) { return template_error(options.output); },
       .excludes = "output_dir"},
      {.key = "publish",
       .variable = "MOETRACE_PUBLISH",
       .member = &Options::publish,
       .on_reload = OnReload::kKept,
       .help = "publish on this ZeroMQ endpoint; repeat the flag for more; none: publish nothing",
       .shown_default = "a socket in the runtime folder",
       .wrong = [](const Options& options) { return publish_error(options.publish); }},
      {.key = "plot_dir",
       .variable = "MOETRACE_PLOT_DIR",
       .member = &Options::plot_dir,
       .on_reload = OnReload::kApplied,
       .help = "draw each ended trace into <plot-dir>/<trace id>/",
       .shown_default = "no pictures"},
      // MOETRACE_LAYERS is the hook's: what an engine records.
      {.key = "layers",
       .variable = "MOETRACE_WRITE_LAYERS",
       .member = &Options::layers,
       .on_reload = OnReload::kApplied,
       .help = "write only these layers, such as 0,5-7; the others count as filtered"},
      {.key = "rows",
       .variable = "MOETRACE_ROWS",
       .member = &Options::rows,
       .on_reload = OnReload::kApplied,
       .help = "where rows go: json, into the trace's lines; arrow, into <trace>.arrows beside it"},
      {.key = "weights",
       .variable = "MOETRACE_WEIGHTS",
       .member = &Options::weights,
       .on_reload = OnReload::kApplied,
       .help = "with --rows arrow: float32, float16 or none"},
      {.key = "compress",
       .variable = "MOETRACE_COMPRESS",
       .member = &Options::compression,
       .on_reload = OnReload::kForNewTraces,
       .help = "with --rows arrow: fast, small, lz4 or none"},
      {.key = "encoder_threads",
       .variable = "MOETRACE_ENCODER_THREADS",
       .member = &Options::encoder_threads,
       .on_reload = OnReload::kKept,
       .help = "with --rows json: write the text of rows on this many threads, 1 to 16",
       .shown_default = "auto: a quarter of the cores, from 1 to 4"},
      {.key = "max_file_size",
       .variable = "MOETRACE_MAX_FILE_SIZE",
       .member = &Options::max_file_size,
       .on_reload = OnReload::kApplied,
       .help = "begin a trace's next part when the files of the present one have this size, such "
               "as 10G",
       .wrong = wrong_file_size},
      {.key = "max_age",
       .variable = "MOETRACE_MAX_AGE",
       .member = &Options::max_age,
       .on_reload = OnReload::kApplied,
       .help = "begin a trace's next part when the present one has rows and this age, such as 1h"},
      {.key = "keep",
       .variable = "MOETRACE_KEEP",
       .member = &Options::keep,
       .on_reload = OnReload::kApplied,
       .help = "keep this many parts of each trace, the newest, and remove older ones"},
      {.key = "max_total_size",
       .variable = "MOETRACE_MAX_TOTAL_SIZE",
       .member = &Options::max_total_size,
       .on_reload = OnReload::kApplied,
       .help = "stop recording before the trace files together have this size, such as 500G",
       .wrong = wrong_total_size},
      {.key = "once",
       .variable = "MOETRACE_ONCE",
       .member = &Options::once,
       .on_reload = OnReload::kKept,
       .help = "end when the first trace has ended"},
      {.key = "quiet",
       .variable = "MOETRACE_QUIET",
       .member = &Options::quiet,
       .on_reload = OnReload::kApplied,
       .help = "print only errors and warnings, not when a trace begins or ends"},
  };
  return settings;
}

CollectorOptions default_options() {
  CollectorOptions options;
  options.directory = default_ring_directory();
  if (const char* state = std::getenv("STATE_DIRECTORY"); state != nullptr && *state != '\0')
    options.output_dir = state;
  return options;
}

std::string Setting::flag() const {
  std::string text = "--" + key;
  std::replace(text.begin(), text.end(), '_', '-');
  return text;
}

ConfigJson Setting::value(const CollectorOptions& options) const {
  return std::visit([&](const auto at) { return value_json(options.*at); }, member);
}

std::string Setting::take(const ConfigJson& value, CollectorOptions& options) const {
  return std::visit([&](const auto at) { return take_value(value, options.*at); }, member);
}

bool Setting::is_switch() const {
  return std::holds_alternative<bool CollectorOptions::*>(member);
}

bool Setting::is_list() const {
  return std::holds_alternative<std::vector<std::string> CollectorOptions::*>(member);
}

bool Setting::is_unset(const ConfigJson& value) const {
  return !is_switch() && (is_list() ? value == ConfigJson::array() : value == "");
}

}  // namespace moetrace
