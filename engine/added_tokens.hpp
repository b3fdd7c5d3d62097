// Tokens that are found in the text before the pre-tokenizer cuts it, such as <|endoftext|>.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace moetrace::engine {

struct AddedToken {
  int64_t id;
  std::string content;
  bool single_word = false;  // matches only between characters that are not word characters
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
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
  // The leftmost match wins, and of those the longest. The pieces cover the text in order; none is
  // empty.
  std::vector<Piece> split(std::string_view text) const;

 private:
  const AddedToken* longest_at(std::string_view text, size_t at) const;
  std::vector<AddedToken> tokens_;
};

}  // namespace moetrace::engine
