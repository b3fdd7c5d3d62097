// What the trace reader and the plotter return when something did not work.
#pragma once

#include <boost/system/result.hpp>
#include <stdexcept>
#include <string>
#include <string_view>

namespace moetrace::trace {

enum class ErrorCode {
  kOpen,           // the file is missing, is a folder, or may not be read
  kRead,           // the operating system failed while reading
  kEmpty,          // the file has no line at all
  kNoEnd,          // the only line is unfinished: a writer was cut off, or is still writing
  kTooLong,        // a line is longer than kMaxLineBytes
  kBadJson,        // a line is not a JSON object
  kNoMeta,         // the first line is neither a meta line nor a row: the file is not a trace
  kBadMeta,        // a meta line misses a key, or contradicts itself or what came before
  kBadLine,        // a key is missing, has the wrong type, or a value is out of range
  kNoExperts,      // nobody says how many experts the model has
  kMismatch,       // files that do not belong together
  kNoLayer,        // a layer was asked for that the trace does not have
  kOtherExperts,   // it was said how many experts the model has, and the trace says otherwise
  kTooFewExperts,  // it was said how many experts the model has, and a line has one beyond them
  kDraw,           // Cairo could not draw
  kWrite,          // an output file could not be written
};

struct Error {
  ErrorCode code;
  std::string message;      // "what: why", without a newline; for a trace "FILE: line N: why"
  std::string remedy = {};  // what to try about this one; empty: as about all of its code
};

// What to try about an error of the trace reader, or of the pictures.
std::string what_to_try(const Error& error);

// Boost.System's result stands in for C++23's std::expected.
template <class T>
using Result = boost::system::result<T, Error>;

// Called by result<>::value() on an error. The libraries check first, so reaching this is a bug of
// the caller.
[[noreturn]] inline void throw_exception_from_error(const Error& error,
                                                    const boost::source_location&) {
  throw std::runtime_error(error.message);
}

}  // namespace moetrace::trace
