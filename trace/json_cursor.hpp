// Walks over the JSON text of one line, token by token, strictly: what is not JSON is an error.
// Internal to the trace reader.
#pragma once

#include <string>
#include <string_view>

namespace moetrace::trace {

// Is all of the text UTF-8 without control characters other than JSON's blanks?
bool is_json_text(std::string_view text);

// Nothing but JSON's blanks?
bool is_blank_text(std::string_view text);

// Does the text begin with { and end with the } that belongs to it? The beginning of a longer line
// never does, wherever it was cut.
bool is_closed_object(std::string_view text);

class JsonCursor {
 public:
  // The text must live as long as the cursor is used. What take_string gave before is invalid.
  void start(std::string_view text);
  // Back to the start; strings stay valid.
  void rewind() { at_ = text_.data(); }

  // The token here: a string with its quotes, a punctuation character, or a run of others (a
  // number, a literal, or nonsense). Empty, but still in the text, at the end or before a string
  // that has no end: passing that does nothing.
  [[nodiscard]] std::string_view token();
  // Past the token that token() has just returned.
  void pass(std::string_view token) { at_ = token.data() + token.size(); }

  // Passes this punctuation character, if it is here.
  bool take(char punctuation);
  // Passes a string; false: no string stands here, or an escape in it is wrong. Valid until
  // start().
  bool take_string(std::string_view& value);

  // Only blanks are left.
  [[nodiscard]] bool at_end();

 private:
  void skip_blanks();
  [[nodiscard]] const char* end() const { return text_.data() + text_.size(); }
  bool unescape(std::string_view raw, std::string_view& value);

  std::string_view text_;
  const char* at_ = nullptr;
  std::string unescaped_;  // never grows between start() and start(): views point into it
};

}  // namespace moetrace::trace
