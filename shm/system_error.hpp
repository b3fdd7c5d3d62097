// An error of the operating system as one line that says what to try.
#pragma once

#include <string>

#include "shm/errors.hpp"

namespace moetrace {

// Whose file failed: a producer's own, to be made in the ring directory, or one that another
// process has made there.
enum class RingFile { kOwn, kOther };

// "WHAT: DOING: why; what to try".
Error system_error(const std::string& what, const std::string& doing, int error_number,
                   RingFile file);

}  // namespace moetrace
