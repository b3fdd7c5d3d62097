// Tokens that are found in the text before anything else cuts it, such as <|endoftext|>.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace moetrace::engine {

struct AddedToken {
  int64_t id;
  std::string content;
  bool single_word = false;  // only where no word character is beside it
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space behind it
};

class AddedTokens {
 public:
  void add(AddedToken token) {
    if (!token.content.empty()) tokens_.push_back(std::move(token));
  }

  struct Piece {
    std::string_view text;
    int64_t id;  // -1: ordinary text
  };
  // Leftmost match first, the longest among those; pieces cover what isn't a token, and aren't
  // empty.
  std::vector<Piece> split(std::string_view text) const;

 private:
  const AddedToken* longest_at(std::string_view text, size_t at) const;
  std::vector<AddedToken> tokens_;
};

}  // namespace moetrace::engine
