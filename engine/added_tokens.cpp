#include "engine/added_tokens.hpp"

#include <utf8proc.h>

#include "common/utf8.hpp"

namespace moetrace::engine {

namespace {

bool is_space(uint32_t point) {
  if (point <= 0x20) return point == ' ' || (point >= '\t' && point <= '\r');
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(point));
  return point == 0x85 || category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
         category == UTF8PROC_CATEGORY_ZP;
}

// \w of a regular expression: letters, marks, decimal digits, connectors.
bool is_word(uint32_t point) {
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(point));
  return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_ND) ||
         category == UTF8PROC_CATEGORY_PC;
}

// Start of the last character of text[0, end), in UTF-8.
size_t start_of_last(std::string_view text, size_t end) {
  size_t at = end - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return at;
}

}  // namespace

const AddedToken* AddedTokens::longest_at(std::string_view text, size_t at) const {
  const AddedToken* best = nullptr;
  for (const AddedToken& token : tokens_) {
    if (token.content[0] == text[at] && text.substr(at).starts_with(token.content) &&
        (best == nullptr || token.content.size() > best->content.size())) {
      best = &token;
    }
  }
  return best;
}

std::vector<AddedTokens::Piece> AddedTokens::split(std::string_view text) const {
  std::vector<Piece> pieces;
  size_t done = 0;
  for (size_t at = 0; at < text.size();) {
    const AddedToken* token = longest_at(text, at);
    if (token == nullptr) {
      ++at;
      continue;
    }
    size_t begin = at;
    size_t end = at + token->content.size();
    if (token->single_word &&
        ((begin > 0 && is_word(decode_utf8(text, start_of_last(text, begin)).value)) ||
         (end < text.size() && is_word(decode_utf8(text, end).value)))) {
      at = end;
      continue;
    }
    while (token->lstrip && begin > done &&
           is_space(decode_utf8(text, start_of_last(text, begin)).value)) {
      begin = start_of_last(text, begin);
    }
    while (token->rstrip && end < text.size() && is_space(decode_utf8(text, end).value)) {
      end += decode_utf8(text, end).bytes;
    }
    if (begin > done) pieces.push_back({text.substr(done, begin - done), -1});
    pieces.push_back({text.substr(begin, end - begin), token->id});
    done = at = end;
  }
  if (done < text.size()) pieces.push_back({text.substr(done), -1});
  return pieces;
}

}  // namespace moetrace::engine
