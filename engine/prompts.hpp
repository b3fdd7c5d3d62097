// Prompt files: texts joined by "\n\n---\n\n".
//
// What editors change without a word changes no prompt: a byte order mark, line ends of Windows (CR
// LF) and of old Macs (CR) in a whole file, blanks at the end of the separator's lines, and one
// newline at the file's end.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "engine/errors.hpp"

namespace moetrace::engine {

inline constexpr std::string_view kPromptSeparator = "\n\n---\n\n";

// kBadPrompt if the file is empty, or one of its texts is empty or not UTF-8; kBadFile for UTF-16.
Result<std::vector<std::string>> read_prompts(const std::filesystem::path& path);

// The first `count` values of "question" of a GSM8K file (JSON Lines), as they are. kBadPrompt if
// it has fewer, or if one contains the separator; kBadFile names the first line that is no such
// object.
Result<std::vector<std::string>> read_gsm8k(const std::filesystem::path& path, int64_t count);

// What read_prompts reads as these.
std::string join_prompts(const std::vector<std::string>& prompts);

}  // namespace moetrace::engine
