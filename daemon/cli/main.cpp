// moetrace: the command line.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "common/program.hpp"
#include "common/usage.hpp"
#include "daemon/cli/commands.hpp"

namespace {

using moetrace::cli::Command;
using moetrace::cli::Failure;

int report(const Failure& failure) {
  std::fprintf(stderr, "moetrace: %s\n", failure.message.c_str());
  return failure.exit_code;
}

// Prints help and version in the form of CLI11; an error becomes one line.
int end_parsing(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) return app.exit(error);
  return report({moetrace::cli::kUsage, moetrace::command_line::usage_line(app, error)});
}

int run_program(int argc, char** argv) {
  // The words after the first `--` of `run` are COMMAND's: do not parse them.
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const auto dashes = std::find(arguments.begin(), arguments.end(), "--");
  const bool runs = !arguments.empty() && arguments.front() == "run" && dashes != arguments.end();
  std::vector<std::string> own(arguments.begin(), runs ? dashes : arguments.end());
  std::optional<std::vector<std::string>> command;
  if (runs) command.emplace(dashes + 1, arguments.end());

  CLI::App app("Shows which experts a Mixture-of-Experts model picks while it is being served.",
               "moetrace");
  app.set_version_flag("--version", "moetrace " MOETRACE_VERSION);
  app.require_subcommand(0, 1);
  Command chosen;
  moetrace::cli::add_run(app, command, chosen);
  moetrace::cli::add_status(app, chosen);
  moetrace::cli::add_tail(app, chosen);
  moetrace::cli::add_top(app, chosen);
  moetrace::cli::add_control(app, chosen);
  moetrace::cli::add_verify(app, chosen);
  moetrace::cli::add_convert(app, chosen);
  moetrace::cli::add_replay(app, chosen);
  moetrace::cli::add_clean(app, chosen);

  try {
    moetrace::command_line::parse(app, std::move(own));
  } catch (const CLI::ParseError& error) {
    return end_parsing(app, error);
  }
  if (!chosen) {
    std::fputs(app.help().c_str(), stderr);
    return moetrace::cli::kUsage;
  }
  try {
    const auto outcome = chosen();
    return outcome ? *outcome : report(outcome.error());
  } catch (const std::exception& error) {
    // The last resort, for example without memory: one line, never a stack.
    return report({moetrace::cli::kFailed, std::string("failed: ") + error.what()});
  }
}

}  // namespace

int main(int argc, char** argv) {
  moetrace::command_line::begin_program();
  return moetrace::command_line::end_program("moetrace", run_program(argc, argv));
}
