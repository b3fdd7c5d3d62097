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
constexpr int kNothingThere = 69;  // EX_UNAVAILABLE of sysexits.h: nothing there to talk to

struct Failure {
  Failure() = default;
  // Not an aggregate: an int alone would else be taken for a failure as well as for an exit code.
  Failure(int exit_code_, std::string message_)
      : exit_code(exit_code_), message(std::move(message_)) {}

  int exit_code = kFailed;
  std::string message;  // "what: why; what to try", one line
};

// The exit code, or why there is none to be proud of.
using Outcome = boost::system::result<int, Failure>;

// Called by result<>::value() on a failure; the commands check first.
[[noreturn]] inline void throw_exception_from_error(const Failure& failure,
                                                    const boost::source_location&) {
  throw std::runtime_error(failure.message);
}

using Command = std::function<Outcome()>;

}  // namespace moetrace::cli
