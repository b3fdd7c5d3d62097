// What a file is, by its first bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "trace/errors.hpp"

namespace moetrace::trace {

// How a file is compressed; these are read as if they were not.
enum class Packing : uint8_t { kNone, kGzip, kZstd };

// How many first bytes decide.
constexpr size_t kPackingBytes = 4;
Packing packing_of(std::string_view first_bytes);

// Why a file that begins with this line, which is not blank, is not a trace: kNoMeta, its message
// the "why" alone.
Error not_a_trace(std::string_view first_line);

}  // namespace moetrace::trace
