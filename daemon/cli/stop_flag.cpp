#include "daemon/cli/stop_flag.hpp"

#include <signal.h>

namespace moetrace::cli {
namespace {

volatile sig_atomic_t stop = 0;

}  // namespace

void catch_stop_signals() {
  struct sigaction action {};
  // Without SA_RESTART, so that blocking calls end.
  action.sa_handler = [](int) { stop = 1; };
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

bool stop_requested() {
  return stop != 0;
}

}  // namespace moetrace::cli
