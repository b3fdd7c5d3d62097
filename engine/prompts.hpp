// Prompt files: texts joined by "\n\n---\n\n".
//
// Reading undoes what editors change silently: a byte order mark, a whole file's line ends as on
// Windows (CR LF) or old Macs (CR), blanks at the end of the separator's lines, and one newline at
// the end of the file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "engine/errors.hpp"

namespace moetrace::engine {

inline constexpr std::string_view kPromptSeparator = "\n\n---\n\n";

// kBadPrompt if the file or one of its prompts is empty, or a prompt is invalid UTF-8. kBadFile if
// the file is UTF-16.
Result<std::vector<std::string>> read_prompts(const std::filesystem::path& path);

// The first `count` values of "question" of a GSM8K file (JSON Lines), unchanged. kBadPrompt if the
// file has fewer, or if a question contains the separator. kBadFile names the first line that is
// not a JSON object with a question.
Result<std::vector<std::string>> read_gsm8k(const std::filesystem::path& path, int64_t count);

// A file content that read_prompts() reads as these prompts.
std::string join_prompts(const std::vector<std::string>& prompts);

}  // namespace moetrace::engine
