// An error of the operating system as one line, with advice.
#pragma once

#include <string>

#include "shm/errors.hpp"

namespace moetrace {

// Whose file failed. kOwn: a producer creates it in the ring directory. kOther: another process has
// created it there.
enum class RingFile { kOwn, kOther };

// "WHAT: DOING: why; what to try".
Error system_error(const std::string& what, const std::string& doing, int error_number,
                   RingFile file);

}  // namespace moetrace
