// A value or an error: what the libraries return. Each room lists its own error codes (errors.hpp).
// Programs turn an error into one line and an exit code.
#pragma once

#include <boost/system/result.hpp>
#include <stdexcept>
#include <string>

namespace moetrace {

template <class Code>
struct CodedError {
  Code code;
  // "what: why" or "what: why; what to try", without a newline.
  std::string message;
  // What to try, if `message` does not say it; may be empty.
  std::string remedy = {};
};

// Boost.System's result stands in for C++23's std::expected.
template <class T, class Code>
using CodedResult = boost::system::result<T, CodedError<Code>>;

// result<>::value() calls it on an error. Callers check first, so reaching it is a bug.
template <class Code>
[[noreturn]] inline void throw_exception_from_error(const CodedError<Code>& error,
                                                    const boost::source_location&) {
  throw std::runtime_error(error.message);
}

}  // namespace moetrace
