// Checks a ring header before any field of it is used. Free of Boost and of files, so that the
// fuzzer can call it on raw bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "shm/abi.h"

namespace moetrace {

// Nothing if every part that `header` describes is aligned, separate and within a file of
// `file_bytes` bytes; else what is wrong. The caller checks magic and ABI version.
std::optional<std::string> check_header(const moetrace_ring_header& header,
                                        std::uint64_t file_bytes);

// moetrace_ring_header::layer_table_offset; 0 if the header is older than the field.
std::uint64_t layer_table_offset(const moetrace_ring_header& header);

// Nothing if a segment with this header, which check_header() has accepted, may have these entries,
// layer 0 first; else what is wrong.
std::optional<std::string> check_layer_table(const moetrace_ring_header& header,
                                             std::span<const moetrace_layer_entry> entries);

// Puts a 0 at the end of every string that another process has written.
void terminate_strings(moetrace_ring_header& header);
void terminate_strings(moetrace_layer_entry& entry);

}  // namespace moetrace
