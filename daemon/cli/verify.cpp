// moetrace verify: checks a trace against its own promises.
#include <cstdio>
#include <memory>

#include "common/text.hpp"
#include "daemon/cli/commands.hpp"
#include "daemon/cli/next_step.hpp"
#include "daemon/cli/repair.hpp"
#include "daemon/cli/segments.hpp"
#include "trace/verify_files.hpp"

namespace moetrace::cli {
namespace {

// Of a chain whose first parts were not given, or are gone.
std::string absent_text(const trace::TraceSummary& summary) {
  if (summary.first_part == 1) return "";
  const std::string parts = summary.first_part == 2
                                ? "part 1 is"
                                : "parts 1 to " + grouped(summary.first_part - 1) + " are";
  return "; " + parts + " absent, with " + counted(summary.rows_before, "delivered row");
}

void print(const std::string& file, const trace::TraceSummary& summary) {
  const std::string path = trace::shown_name(file);
  const auto number = [](std::uint64_t value) { return static_cast<unsigned long long>(value); };
  if (summary.plain) {
    std::printf("%s: good: %s of a plain log; a plain log has no sequence or totals to check\n",
                path.c_str(), counted(summary.rows, "row").c_str());
    return;
  }
  const std::string parts =
      summary.parts > 1 ? " with " + counted(summary.parts - 1, "later part") : "";
  std::printf(
      "%s%s: good: %s, %s, %s, attempted=%llu delivered=%llu filtered=%llu dropped=%llu torn=%llu, "
      "%s%s\n",
      path.c_str(), parts.c_str(), counted(summary.rows, "row").c_str(),
      counted(summary.steps, "step").c_str(), counted(summary.requests, "request").c_str(),
      number(summary.attempted), number(summary.rows), number(summary.filtered),
      number(summary.dropped), number(summary.torn), summary.status.c_str(),
      absent_text(summary).c_str());
}

struct VerifyOptions {
  std::vector<std::string> files;
  std::string directory;
  bool repair = false;
};

// Checks every trace. Each faulty trace has one line, and so has each kind of warning.
Outcome verify(const VerifyOptions& options) {
  const auto next_step = [directory = ring_directory(options.directory)](const std::string& file,
                                                                         const trace::Meta& meta) {
    return how_to_finish(directory, file, meta);
  };
  int exit_code = kOk;
  for (const std::string& file : options.repair ? options.files : std::vector<std::string>()) {
    const auto done = repair(file, ring_directory(options.directory));
    for (const std::string& line : done ? *done : std::vector<std::string>())
      std::printf("%s\n", line.c_str());
    std::fflush(stdout);
    if (done) continue;
    std::fprintf(stderr, "moetrace: %s\n", done.error().message.c_str());
    exit_code = done.error().exit_code;
  }
  if (exit_code != kOk) return exit_code;
  for (const std::vector<std::string>& parts : trace::group_parts(options.files)) {
    const auto summary = trace::verify_trace(parts, next_step);
    if (summary) print(parts.front(), *summary);
    std::fflush(stdout);
    if (!summary) {
      std::fprintf(stderr, "moetrace: %s; %s\n", summary.error().message.c_str(),
                   trace::what_to_try(summary.error()).c_str());
      exit_code = kFailed;
      continue;
    }
    for (const std::string& line : summary->warnings) {
      std::fprintf(stderr, "moetrace: warning: %s\n", line.c_str());
    }
    if (!summary->left_out.empty())
      std::fprintf(stderr, "moetrace: %s\n", summary->left_out.c_str());
  }
  return exit_code;
}

}  // namespace

void add_verify(CLI::App& app, Command& chosen) {
  auto* sub = app.add_subcommand(
      "verify", "Check a trace: its schema, its sequence, and that its totals count every row");
  auto options = std::make_shared<VerifyOptions>();
  sub->add_option("FILE", options->files,
                  "Trace files or plain logs, also .gz or .zst, or - for standard input; the parts "
                  "of one trace are checked as a chain")
      ->required();
  sub->add_flag(
      "--repair", options->repair,
      "First cut off what is unfinished at the end of the files, as a killed collector or "
      "a copy leaves it; no whole line or row is lost");
  add_directory_option(sub, options->directory);
  sub->callback([options, &chosen] { chosen = [options] { return verify(*options); }; });
}

}  // namespace moetrace::cli
