// Why an operation on a segment failed.
#pragma once

#include <string>

#include "common/result.hpp"

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

using Error = CodedError<ErrorCode>;
template <class T>
using Result = CodedResult<T, ErrorCode>;

}  // namespace moetrace
