// Why a trace file could not be read, or a picture not drawn.
#pragma once

#include <string>

#include "common/result.hpp"

namespace moetrace::trace {

enum class ErrorCode {
  kOpen,           // the file is missing, is a folder, or may not be read
  kRead,           // the operating system failed while reading
  kEmpty,          // the file is empty
  kNoEnd,          // the only line is unfinished: a writer was cut off, or is still writing
  kTooLong,        // a line is longer than kMaxLineBytes
  kBadJson,        // a line is not a JSON object
  kNoMeta,         // the first line is neither a meta line nor a row: the file is not a trace
  kBadMeta,        // a meta line misses a key, or contradicts itself or what came before
  kBadLine,        // a key is missing, has the wrong type, or a value is out of range
  kBadRows,        // a rows file is damaged, or another's
  kNoRows,         // the rows file of a trace is missing
  kNoLines,        // only the rows file of a trace is there
  kNoExperts,      // neither the file nor the user says how many experts the model has
  kMismatch,       // files that do not belong together
  kNoLayer,        // a layer was asked for that the trace does not have
  kOtherExperts,   // the user gave a number of experts, and the trace states another
  kTooFewExperts,  // the user gave a number of experts, and a line has an id beyond it
  kWrongTrace,     // a trace that verification refuses
  kDraw,           // Cairo could not draw
  kWrite,          // an output file could not be written
};

using Error = CodedError<ErrorCode>;
template <class T>
using Result = CodedResult<T, ErrorCode>;

// What to try about `error`: its own remedy, else the one of its code.
std::string what_to_try(const Error& error);

}  // namespace moetrace::trace
