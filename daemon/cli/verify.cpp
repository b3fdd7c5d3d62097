// moetrace verify: does a trace hold what it promises?
#include <cstdio>
#include <memory>

#include "daemon/cli/commands.hpp"
#include "common/text.hpp"
#include "daemon/cli/next_step.hpp"
#include "trace/verify_files.hpp"

namespace moetrace::cli {
namespace {

void print(const std::string& file, const trace::TraceSummary& summary) {
  const std::string path = trace::shown_name(file);
  const auto number = [](std::uint64_t value) { return static_cast<unsigned long long>(value); };
  if (summary.plain) {
    std::printf("%s: good: %s of a plain log, which has no sequence and no totals to check\n",
                path.c_str(), counted(summary.rows, "row").c_str());
    return;
  }
  const std::string parts =
      summary.parts > 1 ? " with " + counted(summary.parts - 1, "later part") : "";
  std::printf(
      "%s%s: good: %s, %s, %s, attempted=%llu delivered=%llu filtered=%llu dropped=%llu torn=%llu, "
      "%s\n",
      path.c_str(), parts.c_str(), counted(summary.rows, "row").c_str(),
      counted(summary.steps, "step").c_str(), counted(summary.requests, "request").c_str(),
      number(summary.attempted), number(summary.rows), number(summary.filtered),
      number(summary.dropped), number(summary.torn), summary.status.c_str());
}

// All traces are looked at; each wrong one has its line, and so has each kind of warning.
Outcome verify(const std::vector<std::string>& files) {
  int exit_code = kOk;
  for (const std::vector<std::string>& parts : trace::group_parts(files)) {
    const auto summary = trace::verify_trace(parts, how_to_finish);
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
      "verify", "Check a trace: schema, sequence, and that every row is accounted for");
  auto files = std::make_shared<std::vector<std::string>>();
  sub->add_option(
         "FILE", *files,
         "Trace files, of which parts of one trace are checked as a chain, or plain logs; also "
         ".gz or .zst, or - for standard input")
      ->required();
  sub->callback([files, &chosen] { chosen = [files] { return verify(*files); }; });
}

}  // namespace moetrace::cli
