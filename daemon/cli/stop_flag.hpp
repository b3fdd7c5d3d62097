// SIGINT and SIGTERM as a flag, for the commands that run until they are told to stop.
#pragma once

namespace moetrace::cli {

// Blocking calls end with EINTR from then on.
void catch_stop_signals();
bool stop_requested();

}  // namespace moetrace::cli
