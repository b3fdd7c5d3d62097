// Maps the files of a segment.
#pragma once

#include <boost/interprocess/mapped_region.hpp>
#include <cstdint>
#include <string>

#include "common/unique_fd.hpp"
#include "shm/errors.hpp"
#include "shm/system_error.hpp"

namespace moetrace {

// Maps the file that `fd` has open. By now its name may lead to another file, so `path` is for
// error lines only. Forked children don't inherit the mapping.
Result<boost::interprocess::mapped_region> map_file(const UniqueFd& fd, const std::string& path,
                                                    boost::interprocess::mode_t mode,
                                                    RingFile whose);

// The size of an open regular file; 0 for anything else.
std::uint64_t file_bytes(const UniqueFd& fd);

}  // namespace moetrace
