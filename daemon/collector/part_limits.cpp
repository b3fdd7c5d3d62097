#include "daemon/collector/part_limits.hpp"

namespace moetrace {

bool part_is_over(const PartState& part, const ByteSize& max_file_size, const TimeSpan& max_age) {
  if (max_file_size.bytes != 0 && part.bytes >= max_file_size.bytes &&
      part.bytes - part.head_bytes >= max_file_size.bytes / 2)
    return true;
  return max_age.seconds != 0 && part.has_rows && part.age >= std::chrono::seconds(max_age.seconds);
}

}  // namespace moetrace
