// Why a part of the engine failed.
#pragma once

#include <string>

#include "common/result.hpp"

namespace moetrace::engine {

enum class ErrorCode {
  kUsage,        // the command line or the environment is wrong
  kNotFound,     // a file or folder is missing, or can't be read
  kBadFile,      // a file's bytes contradict themselves
  kBadModel,     // the model's files contradict each other
  kUnsupported,  // a file needs what this engine does not implement
  kBadPrompt,    // a prompt can't be run
  kCantWrite,    // a file can't be written
  kNoMemory,     // not enough memory
  kFailed,       // a computation failed
};

using Error = CodedError<ErrorCode>;
template <class T>
using Result = CodedResult<T, ErrorCode>;

// What to try where files contradict themselves or each other.
constexpr const char* kDownloadAgain = "download the model again";
// What to try when a batch or a model does not fit in memory.
constexpr const char* kLessMemory = "; try a smaller --batch, or a smaller model";

// What to try when a computation fails for a reason that the user can't know.
constexpr const char* kReport = "; check the model's files, or report this as a bug";

// The error of a part, with the name of the whole before it: "<what>: <message>".
inline Error in_context(const std::string& what, const Error& error) {
  return {error.code, what + ": " + error.message};
}

// The same, followed by what to try: "<what>: <message>; <advice>".
inline Error in_context(const std::string& what, const Error& error, const std::string& advice) {
  return {error.code, what + ": " + error.message + "; " + advice};
}

}  // namespace moetrace::engine
