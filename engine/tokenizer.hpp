// tokenizer.json with a byte-level BPE: text to ids and back, as the tokenizers library does it.
// Order of encoding: added tokens that aren't normalised, normaliser, added tokens that are,
// pre-tokeniser, BPE, post-processor.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/added_tokens.hpp"
#include "engine/bpe.hpp"
#include "engine/pre_tokenizer.hpp"
#include "engine/errors.hpp"

namespace moetrace::engine {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

class Tokenizer {
 public:
  static Result<Tokenizer> load(const std::filesystem::path& folder);  // its tokenizer.json
  static Result<Tokenizer> parse(const nlohmann::json& json);

  // `text` must be valid UTF-8 (kBadPrompt otherwise). Adds the special tokens that the file's
  // post-processor asks for.
  Result<std::vector<int64_t>> encode(std::string_view text) const;

  // Ids without a token, and special tokens if so wished, give nothing; bytes that are no UTF-8
  // give U+FFFD.
  std::string decode(const std::vector<int64_t>& ids, bool skip_special = true) const;

  // One more than the largest id.
  int64_t size() const { return size_; }

 private:
  Result<void> parse_normalizer(const nlohmann::json& json);
  Result<void> parse_post_processor(const nlohmann::json& json);
  Result<void> parse_decoder(const nlohmann::json& json);
  Result<std::string> normalize(std::string_view text) const;
  Result<void> encode_plain(std::string_view text, std::vector<int64_t>& ids) const;

  std::vector<NormalForm> normal_forms_;
  AddedTokens added_raw_;         // found in the text as it is
  AddedTokens added_normalized_;  // found in the normalised text
  PreTokenizer pre_tokenizer_;
  Bpe bpe_;
  std::vector<int64_t> before_;  // what the post-processor puts around a text
  std::vector<int64_t> after_;
  bool byte_level_decoder_ = false;
  std::unordered_map<int64_t, std::string> token_;
  std::unordered_map<int64_t, bool> special_;
  int64_t size_ = 0;
};

}  // namespace moetrace::engine
