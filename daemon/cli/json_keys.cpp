#include "daemon/cli/json_keys.hpp"

#include "trace/json_cursor.hpp"

namespace moetrace::cli {
namespace {

// Passes one value, of any depth.
void pass_value(trace::JsonCursor& cursor) {
  for (std::size_t depth = 0;;) {
    const std::string_view token = cursor.token();
    if (token.empty()) return;
    cursor.pass(token);
    if (token == "{" || token == "[") ++depth;
    if (token == "}" || token == "]") --depth;
    if (depth == 0) return;
  }
}

// Calls take(key, begin, end) for each member: its key, with quotes, and the places where its key
// begins and its value ends.
template <class Take>
void for_members(std::string_view line, Take take) {
  trace::JsonCursor cursor;
  cursor.start(line);
  if (!cursor.take('{')) return;
  do {
    const std::string_view key = cursor.token();
    if (key.empty() || key == "}") return;
    cursor.pass(key);
    if (!cursor.take(':')) return;
    pass_value(cursor);
    // The next token begins after blanks, which belong to no value.
    const char* end = cursor.token().data();
    while (end > key.data() + key.size() && (end[-1] == ' ' || end[-1] == '\t')) --end;
    take(key, static_cast<std::size_t>(key.data() - line.data()),
         static_cast<std::size_t>(end - line.data()));
  } while (cursor.take(','));
}

}  // namespace

std::vector<std::string_view> keys_of(std::string_view line) {
  std::vector<std::string_view> keys;
  for_members(line, [&](std::string_view key, std::size_t, std::size_t) {
    keys.push_back(key.substr(1, key.size() - 2));
  });
  return keys;
}

std::string without_key(std::string_view line, std::string_view key) {
  std::size_t begin = 0, end = 0;
  const std::string quoted = '"' + std::string(key) + '"';
  for_members(line, [&](std::string_view name, std::size_t from, std::size_t to) {
    if (end > 0 || name != quoted) return;
    begin = from;
    end = to;
  });
  if (end == 0) return std::string(line);
  // With the comma before it, or, if it is the first key, with the one after it.
  const std::size_t before = line.find_last_not_of(" \t", begin - 1);
  if (line[before] == ',') {
    begin = before;
  } else if (const std::size_t after = line.find_first_not_of(" \t", end); line[after] == ',') {
    end = line.find_first_not_of(" \t", after + 1);
  }
  return std::string(line.substr(0, begin)) + std::string(line.substr(end));
}

std::string with_member(std::string_view line, std::string_view member) {
  const std::size_t brace = line.rfind('}');
  std::string text(line.substr(0, brace));
  text += ',';
  text += member;
  text += line.substr(brace);
  return text;
}

}  // namespace moetrace::cli
