// moetrace replay: sends a trace file through a real ring.
#include <cstdio>
#include <memory>

#include "common/text.hpp"
#include "common/usage.hpp"
#include "daemon/cli/commands.hpp"
#include "daemon/cli/replayer.hpp"

namespace moetrace::cli {
namespace {

Outcome replay(const ReplayOptions& options) {
  auto replayer = Replayer::open(options);
  if (!replayer) return replayer.error();
  if (const std::string& line = (*replayer)->warning(); !line.empty())
    std::fprintf(stderr, "moetrace: %s\n", line.c_str());
  const ReplayTotals totals = (*replayer)->run();
  std::printf("%s: %s in %s, %s dropped, trace %s\n", trace::shown_name(options.file).c_str(),
              counted(totals.rows, "row").c_str(), counted(totals.steps, "step").c_str(),
              grouped(totals.dropped).c_str(), totals.trace_id.c_str());
  if (!totals.failure.empty()) return Failure{kFailed, totals.failure};
  if (!totals.left_out.empty()) std::fprintf(stderr, "moetrace: %s\n", totals.left_out.c_str());
  return kOk;
}

}  // namespace

void add_replay(CLI::App& app, Command& chosen) {
  auto* sub = app.add_subcommand("replay", "Send a trace file through a ring, as an engine would");
  auto options = std::make_shared<ReplayOptions>();
  sub->add_option("FILE", options->file,
                  "A trace file, or a plain log; also .gz or .zst, or - for standard input")
      ->required();
  sub->add_option(
         "--rate", options->rows_per_second,
         "Rows a second, in real time: rows that don't fit are dropped and counted. Without "
         "it: as fast as the collector takes them")
      ->check(command_line::positive_number());
  sub->add_option("--num-experts", options->num_experts,
                  "Experts of a layer, for a file that does not state it")
      ->check(command_line::integer<std::uint32_t>(1, MOETRACE_MAX_EXPERTS));
  add_directory_option(sub, options->directory);
  sub->callback([options, &chosen] { chosen = [options] { return replay(*options); }; });
}

}  // namespace moetrace::cli
