#include "trace/json_cursor.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>

#include "common/utf8.hpp"

namespace moetrace::trace {
namespace {

bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

bool is_punctuation(char c) {
  return c == '{' || c == '}' || c == '[' || c == ']' || c == ',' || c == ':';
}

// Four hexadecimal digits.
std::optional<uint32_t> take_hex(std::string_view& raw) {
  if (raw.size() < 4) return std::nullopt;
  uint32_t value = 0;
  for (const char c : raw.substr(0, 4)) {
    const char* const digits = "0123456789abcdefABCDEF";
    const char* const found = c == '\0' ? nullptr : std::strchr(digits, c);
    if (found == nullptr) return std::nullopt;
    const auto digit = static_cast<uint32_t>(found - digits);
    value = 16 * value + (digit < 16 ? digit : digit - 6);
  }
  raw.remove_prefix(4);
  return value;
}

// The code point after "\u"; a surrogate must come with its other half.
std::optional<uint32_t> take_code(std::string_view& raw) {
  const auto first = take_hex(raw);
  if (!first || *first < 0xD800 || *first > 0xDFFF) return first;
  if (*first > 0xDBFF || !raw.starts_with("\\u")) return std::nullopt;
  raw.remove_prefix(2);
  const auto second = take_hex(raw);
  if (!second || *second < 0xDC00 || *second > 0xDFFF) return std::nullopt;
  return 0x10000 + ((*first - 0xD800) << 10) + (*second - 0xDC00);
}

}  // namespace

bool is_json_text(std::string_view text) {
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    if (static_cast<unsigned char>(*at) < ' ' && !is_blank(*at)) return false;
    if (static_cast<unsigned char>(*at) < 0x80) {
      ++at;
      continue;
    }
    const CodePoint point = decode_utf8({at, static_cast<size_t>(end - at)}, 0);
    if (!point.valid) return false;
    at += point.bytes;
  }
  return true;
}

bool is_blank_text(std::string_view text) {
  return std::all_of(text.begin(), text.end(), is_blank);
}

bool is_closed_object(std::string_view text) {
  size_t depth = 0;
  bool in_string = false;
  bool closed = false;
  for (size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (in_string) {
      if (c == '\\') ++at;
      in_string = c != '"';
      continue;
    }
    if (is_blank(c)) continue;
    if (closed || (depth == 0 && c != '{')) return false;
    in_string = c == '"';
    if (c == '{' || c == '[') ++depth;
    if (c == '}' || c == ']') closed = --depth == 0;
  }
  return closed;
}

void JsonCursor::start(std::string_view text) {
  text_ = text;
  at_ = text.data();
  unescaped_.clear();
  // No string gets longer, and each is read twice at most.
  if (text.find('\\') != std::string_view::npos) unescaped_.reserve(2 * text.size());
}

void JsonCursor::skip_blanks() {
  while (at_ != end() && is_blank(*at_)) ++at_;
}

bool JsonCursor::at_end() {
  skip_blanks();
  return at_ == end();
}

std::string_view JsonCursor::token() {
  if (at_end()) return {at_, at_};
  const char* last = at_ + 1;
  if (*at_ == '"') {
    while (last != end() && *last != '"') last += *last == '\\' && last + 1 != end() ? 2 : 1;
    return {at_, last == end() ? 0 : static_cast<size_t>(last + 1 - at_)};
  }
  if (!is_punctuation(*at_)) {
    while (last != end() && !is_blank(*last) && !is_punctuation(*last) && *last != '"') ++last;
  }
  return {at_, static_cast<size_t>(last - at_)};
}

bool JsonCursor::take(char punctuation) {
  if (at_end() || *at_ != punctuation) return false;
  ++at_;
  return true;
}

bool JsonCursor::take_string(std::string_view& value) {
  const std::string_view quoted = token();
  if (quoted.size() < 2 || quoted.front() != '"') return false;
  const std::string_view raw = quoted.substr(1, quoted.size() - 2);
  for (const char c : raw) {
    if (static_cast<unsigned char>(c) < ' ') return false;
  }
  if (raw.find('\\') == std::string_view::npos) {
    value = raw;
  } else if (!unescape(raw, value)) {
    return false;
  }
  pass(quoted);
  return true;
}

bool JsonCursor::unescape(std::string_view raw, std::string_view& value) {
  constexpr std::string_view kLetters = "\"\\/bfnrt";
  constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
  const size_t begin = unescaped_.size();
  while (!raw.empty()) {
    const char c = raw.front();
    raw.remove_prefix(1);
    if (c != '\\') {
      unescaped_.push_back(c);
      continue;
    }
    const char letter = raw.front();  // the token ends in a quote, so a letter follows
    raw.remove_prefix(1);
    const size_t known = kLetters.find(letter);
    if (known != std::string_view::npos) {
      unescaped_.push_back(kMeanings[known]);
      continue;
    }
    const auto code = letter == 'u' ? take_code(raw) : std::nullopt;
    if (!code) return false;
    append_utf8(unescaped_, *code);
  }
  value = std::string_view(unescaped_).substr(begin);
  return true;
}

}  // namespace moetrace::trace
