// Edits one line of JSON as text: what is not edited stays as it is, byte by byte.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace moetrace::cli {

// Every `line` is one JSON object that has been parsed before, without its newline.

// Its keys, as they stand between their quotes, in their order.
std::vector<std::string_view> keys_of(std::string_view line);
// The line without this key and its value; the line itself if it has no such key.
std::string without_key(std::string_view line, std::string_view key);
// The line with `member`, a key and its value such as "at_seq":5, as its last one.
std::string with_member(std::string_view line, std::string_view member);

}  // namespace moetrace::cli
