// Why an operation on a segment failed.
#pragma once

#include <string>

#include "common/result.hpp"

namespace moetrace {

enum class ErrorCode {
  kBadArgument,   // an argument is out of range
  kNoDirectory,   // the ring directory is missing or unusable
  kNoSpace,       // the tmpfs is full
  kPermission,    // the operating system refused access
  kNotFound,      // the segment does not exist
  kInUse,         // another process holds the lock
  kWrongVersion,  // a segment of another ABI version
  kBadSegment,    // the bytes contradict themselves
  kBadFile,       // a trace file contradicts itself
  kSystem,        // any other system call failed
};

using Error = CodedError<ErrorCode>;
template <class T>
using Result = CodedResult<T, ErrorCode>;

}  // namespace moetrace
