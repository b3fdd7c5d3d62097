// SIGINT and SIGTERM as a flag, for commands that run until they are stopped.
#pragma once

namespace moetrace::cli {

// From then on a signal ends blocking calls with EINTR.
void catch_stop_signals();
bool stop_requested();

}  // namespace moetrace::cli
