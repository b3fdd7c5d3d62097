// How a subcommand ends. main() alone prints failures and turns them into exit codes.
#pragma once

#include <boost/system/result.hpp>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>

namespace moetrace::cli {

constexpr int kOk = 0;
constexpr int kFailed = 1;
constexpr int kUsage = 2;
// EX_UNAVAILABLE of sysexits.h: no ring, or no collector.
constexpr int kNothingThere = 69;

struct Failure {
  Failure() = default;
  // Not an aggregate: an int must convert to an exit code, never to a failure.
  Failure(int exit_code_, std::string message_)
      : exit_code(exit_code_), message(std::move(message_)) {}

  int exit_code = kFailed;
  // One line: "what: why; what to try".
  std::string message;
};

// The exit code, or the failure.
using Outcome = boost::system::result<int, Failure>;

// Called by result<>::value() on a failure; the commands check first.
[[noreturn]] inline void throw_exception_from_error(const Failure& failure,
                                                    const boost::source_location&) {
  throw std::runtime_error(failure.message);
}

using Command = std::function<Outcome()>;

}  // namespace moetrace::cli
