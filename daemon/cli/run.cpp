// moetrace run: its command line.
#include <cstdlib>
#include <memory>
#include <optional>

#include "daemon/cli/commands.hpp"
#include "daemon/cli/run_traced.hpp"
#include "daemon/collector/output_template.hpp"
#include "daemon/endpoint_text.hpp"

namespace moetrace::cli {
namespace {

constexpr const char* kUsageLine = "moetrace run [OPTIONS] -- COMMAND [ARG...]";

class RunHelp : public CLI::Formatter {
  std::string make_usage(const CLI::App*, std::string) const override {
    return std::string("Usage: ") + kUsageLine + "\n";
  }
};

// What is wrong with the words before and after `--`, or "".
std::string usage_error(const std::vector<std::string>& words,
                        const std::optional<std::vector<std::string>>& command) {
  const std::string write = std::string("; write: ") + kUsageLine;
  if (!words.empty() && words.front().starts_with("-"))
    return "run: unknown option " + words.front() + "; see moetrace run --help";
  if (!words.empty() && !command)
    return "run: -- is missing before COMMAND, here '" + words.front() + "'" + write;
  if (!words.empty())
    return "run: '" + words.front() + "' before --: expected only options there" + write;
  if (!command) return "run: -- and COMMAND are missing" + write;
  return command->empty() ? "run: COMMAND is missing after --" + write : "";
}

}  // namespace

void add_run(CLI::App& app, const std::optional<std::vector<std::string>>& command,
             Command& chosen) {
  auto* sub = app.add_subcommand("run", std::string("Trace one command: ") + kUsageLine);
  sub->formatter(std::make_shared<RunHelp>());
  // usage_error() checks the words that are not options.
  sub->prefix_command();
  auto options = std::make_shared<RunOptions>();
  const char* output = std::getenv("VLLM_LOG_MOE");
  options->output = output != nullptr && *output != '\0' ? output : "trace.jsonl";
  sub->add_option(
      "-o,--output", options->output,
      "The trace file; {model}, {host}, {rank}, {trace} and {date} stand for the trace's own; "
      "without -o, $VLLM_LOG_MOE or trace.jsonl");
  sub->add_option("--plot", options->plot_dir, "Draw pictures into this folder at the end");
  sub->add_option("--publish", options->publish,
                  "Publish the live stream on this ZeroMQ endpoint; none: publish nothing")
      ->take_all();
  sub->add_flag(
      "--wait", options->wait,
      "After COMMAND, also wait for an engine that it started in the background, until that "
      "engine has made its ring and has ended, or until Ctrl-C");
  add_directory_option(sub, options->directory);
  sub->callback([sub, options, command, &chosen] {
    chosen = [sub, words = sub->remaining(), options, command]() -> Outcome {
      const std::string wrong = usage_error(words, command);
      if (!wrong.empty()) return Failure{kUsage, wrong};
      if (const std::string why = publish_error(options->publish); !why.empty())
        return Failure{kUsage, "run: " + why};
      if (const std::string why = template_error(options->output); !why.empty())
        return Failure{kUsage, "run: invalid value '" + options->output + "' for " +
                                   (sub->count("-o") > 0 ? "-o" : "VLLM_LOG_MOE") + ": " + why};
      options->command = *command;
      return run_traced(*options);
    };
  });
}

}  // namespace moetrace::cli
