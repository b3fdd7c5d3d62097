// The subcommands of `moetrace`. Each adds itself to the parser; the one that the user names stores
// what is to be done in `chosen`.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "daemon/cli/outcome.hpp"

namespace moetrace::cli {

void add_clean(CLI::App& app, Command& chosen);
void add_control(CLI::App& app, Command& chosen);  // start, stop and set
void add_replay(CLI::App& app, Command& chosen);
// `command` is what stands behind `--`; nothing if there is no `--`.
void add_run(CLI::App& app, const std::optional<std::vector<std::string>>& command,
             Command& chosen);
void add_status(CLI::App& app, Command& chosen);
void add_tail(CLI::App& app, Command& chosen);
void add_top(CLI::App& app, Command& chosen);
void add_verify(CLI::App& app, Command& chosen);

}  // namespace moetrace::cli
