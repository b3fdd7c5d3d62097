// What the shm library returns when something did not work.
#pragma once

#include <boost/system/result.hpp>
#include <stdexcept>
#include <string>

namespace moetrace {

enum class ErrorCode {
  kBadArgument,   // the caller asked for something that can't be
  kNoDirectory,   // the ring directory is missing or can't be used
  kNoSpace,       // the tmpfs is full
  kPermission,    // the operating system said no
  kNotFound,      // there is no such segment
  kInUse,         // somebody else holds the lock
  kWrongVersion,  // a segment of another ABI version
  kBadSegment,    // the bytes contradict themselves
  kBadFile,       // a trace file contradicts itself
  kSystem,        // any other system call failed
};

struct Error {
  ErrorCode code;
  std::string message;  // "what: why; what to try", without a newline
};

// Boost.System's result stands in for C++23's std::expected.
template <class T>
using Result = boost::system::result<T, Error>;

// Called by result<>::value() on an error; the libraries check before they look, so this is a bug
// if it is ever reached.
[[noreturn]] inline void throw_exception_from_error(const Error& error,
                                                    const boost::source_location&) {
  throw std::runtime_error(error.message);
}
}  // namespace moetrace
