// The subcommands of `moetrace`. Each adds itself to the parser; the one that the user names stores
// its work in `chosen`.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "daemon/cli/outcome.hpp"

namespace moetrace::cli {

void add_clean(CLI::App& app, Command& chosen);
void add_convert(CLI::App& app, Command& chosen);
// start, stop and set.
void add_control(CLI::App& app, Command& chosen);
void add_replay(CLI::App& app, Command& chosen);
// `command`: the words after `--`; nothing without `--`.
void add_run(CLI::App& app, const std::optional<std::vector<std::string>>& command,
             Command& chosen);
void add_status(CLI::App& app, Command& chosen);
void add_tail(CLI::App& app, Command& chosen);
void add_top(CLI::App& app, Command& chosen);
void add_verify(CLI::App& app, Command& chosen);

// The option of every command that looks for rings.
inline void add_directory_option(CLI::App* sub, std::string& directory) {
  sub->add_option("--directory", directory,
                  "The ring directory; without it, $MOETRACE_DIR, /run/moetrace or /dev/shm");
}

}  // namespace moetrace::cli
