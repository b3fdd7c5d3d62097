// Why a part of the engine failed.
#pragma once

#include <string>

#include "common/result.hpp"

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

using Error = CodedError<ErrorCode>;
template <class T>
using Result = CodedResult<T, ErrorCode>;

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
