// Checks a ring header before any field of it is used. Free of Boost and of files, so that the
// fuzzer can call it on raw bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "shm/abi.h"

namespace moetrace {

// Nothing if every part that `header` describes is aligned, separate and within a file of
// `file_bytes` bytes; else what is wrong. The caller checks magic and ABI version.
std::optional<std::string> check_header(const moetrace_ring_header& header,
                                        std::uint64_t file_bytes);

// Puts a 0 at the end of every string of a header that another process has written.
void terminate_strings(moetrace_ring_header& header);

}  // namespace moetrace
