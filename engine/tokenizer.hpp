// tokenizer.json with a byte-level BPE: text to ids and back, as in the tokenizers library. Steps
// of encoding: find the added tokens that are not normalized; normalize; find the added tokens that
// are normalized; pre-tokenize; merge (BPE); post-process.
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
#include "engine/errors.hpp"
#include "engine/pre_tokenizer.hpp"

namespace moetrace::engine {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

class Tokenizer {
 public:
  // Reads the folder's tokenizer.json.
  static Result<Tokenizer> load(const std::filesystem::path& folder);
  static Result<Tokenizer> parse(const nlohmann::json& json);

  // `text` must be valid UTF-8 (kBadPrompt otherwise). Adds the special tokens that the file's
  // post-processor prescribes.
  Result<std::vector<int64_t>> encode(std::string_view text) const;

  // Skips ids without a token, and special tokens if `skip_special`. Invalid UTF-8 becomes U+FFFD.
  std::string decode(const std::vector<int64_t>& ids, bool skip_special = true) const;

  // The largest id plus one.
  int64_t size() const { return size_; }

 private:
  Result<void> parse_normalizer(const nlohmann::json& json);
  Result<void> parse_post_processor(const nlohmann::json& json);
  Result<void> parse_decoder(const nlohmann::json& json);
  Result<std::string> normalize(std::string_view text) const;
  Result<void> encode_plain(std::string_view text, std::vector<int64_t>& ids) const;

  std::vector<NormalForm> normal_forms_;
  AddedTokens added_raw_;         // found in the text as it is
  AddedTokens added_normalized_;  // found in the normalized text
  PreTokenizer pre_tokenizer_;
  Bpe bpe_;
  std::vector<int64_t> before_;  // ids that the post-processor puts before a text
  std::vector<int64_t> after_;   // ids that it puts after a text
  bool byte_level_decoder_ = false;
  std::unordered_map<int64_t, std::string> token_;  // by id
  std::unordered_map<int64_t, bool> special_;       // by id, of added tokens
  int64_t size_ = 0;
};

}  // namespace moetrace::engine
