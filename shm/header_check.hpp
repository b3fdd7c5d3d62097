// What must hold in a ring header before anything in it is used. No Boost, no files: the fuzzer
// calls it on raw bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "shm/abi.h"

namespace moetrace {

// Nothing if `header` describes parts that lie, aligned and without overlap, within a file of
// `file_bytes` bytes; else what is wrong with it. Magic and ABI version are the caller's.
std::optional<std::string> check_header(const moetrace_ring_header& header,
                                        std::uint64_t file_bytes);

// Ends every string of a header that came from somebody else.
void terminate_strings(moetrace_ring_header& header);

}  // namespace moetrace
