// What the engine's parts return when something did not work.
#pragma once

#include <boost/system/result.hpp>
#include <stdexcept>
#include <string>
#include <utility>

namespace moetrace::engine {

enum class ErrorCode {
  kUsage,        // the command line or the environment does not fit
  kNotFound,     // a file or folder isn't there, or can't be read
  kBadFile,      // a file's bytes contradict themselves
  kBadModel,     // the model's files contradict each other
  kUnsupported,  // the file asks for something that this engine does not do
  kBadPrompt,    // a prompt that can't be run
  kCantWrite,    // a file can't be written
  kNoMemory,     // not enough memory
  kFailed,       // a computation failed
};

struct Error {
  ErrorCode code;
  std::string message;  // "what: why; what to try", one line, without a newline
};

// Boost.System's result stands in for C++23's std::expected.
template <class T>
using Result = boost::system::result<T, Error>;

// Called by result<>::value() on an error; every caller here looks first, so reaching it is a bug.
[[noreturn]] inline void throw_exception_from_error(const Error& error,
                                                    const boost::source_location&) {
  throw std::runtime_error(error.message);
}

// What to try where files contradict themselves or each other.
constexpr const char* kDownloadAgain = "download the model again";
// What to try where a batch or a model does not fit.
constexpr const char* kLessMemory = "; try a smaller --batch, or a smaller model";

// The error of one part, said about a larger thing: "<what>: <message>".
inline Error in_context(const std::string& what, const Error& error) {
  return {error.code, what + ": " + error.message};
}

// The same, with what to try: "<what>: <message>; <advice>".
inline Error in_context(const std::string& what, const Error& error, const std::string& advice) {
  return {error.code, what + ": " + error.message + "; " + advice};
}

}  // namespace moetrace::engine
