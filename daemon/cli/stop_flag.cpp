#include "daemon/cli/stop_flag.hpp"

#include <signal.h>

namespace moetrace::cli {
namespace {

volatile sig_atomic_t stop = 0;

}  // namespace

void catch_stop_signals() {
  struct sigaction action {};
  action.sa_handler = [](int) { stop = 1; };  // no SA_RESTART
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

bool stop_requested() {
  return stop != 0;
}

}  // namespace moetrace::cli
