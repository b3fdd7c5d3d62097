// moetrace verify: does a trace file hold what it promises?
#include <cstdio>
#include <memory>

#include "daemon/cli/commands.hpp"
#include "daemon/cli/text.hpp"
#include "daemon/cli/verifier.hpp"
#include "plotter/trace_reader.hpp"

namespace moetrace::cli {
namespace {

void print(const std::string& file, const TraceSummary& summary) {
  const std::string path = trace::shown_name(file);
  const auto number = [](std::uint64_t value) { return static_cast<unsigned long long>(value); };
  if (summary.plain) {
    std::printf("%s: good: %s of a plain log, which has no sequence and no totals to check\n",
                path.c_str(), counted(summary.rows, "row").c_str());
    return;
  }
  std::printf(
      "%s: good: %s, %s, %s, attempted=%llu delivered=%llu filtered=%llu dropped=%llu torn=%llu, "
      "%s\n",
      path.c_str(), counted(summary.rows, "row").c_str(), counted(summary.steps, "step").c_str(),
      counted(summary.requests, "request").c_str(), number(summary.attempted), number(summary.rows),
      number(summary.filtered), number(summary.dropped), number(summary.torn),
      summary.status.c_str());
}

// All files are looked at; each wrong one has its line.
Outcome verify(const std::vector<std::string>& files) {
  int exit_code = kOk;
  for (const std::string& file : files) {
    const auto summary = verify_trace(file);
    if (summary) print(file, *summary);
    std::fflush(stdout);
    if (summary) {
      if (!summary->left_out.empty())
        std::fprintf(stderr, "moetrace: %s\n", summary->left_out.c_str());
      continue;
    }
    std::fprintf(stderr, "moetrace: %s\n", summary.error().message.c_str());
    exit_code = kFailed;
  }
  return exit_code;
}

}  // namespace

void add_verify(CLI::App& app, Command& chosen) {
  auto* sub = app.add_subcommand(
      "verify", "Check a trace: schema, sequence, and that every row is accounted for");
  auto files = std::make_shared<std::vector<std::string>>();
  sub->add_option("FILE", *files,
                  "Trace files, or plain logs; also .gz or .zst, or - for standard input")
      ->required();
  sub->callback([files, &chosen] { chosen = [files] { return verify(*files); }; });
}

}  // namespace moetrace::cli
