#include "engine/tokenizer.hpp"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "common/utf8.hpp"
#include "engine/byte_level.hpp"
#include "engine/files.hpp"

namespace moetrace::engine {

using nlohmann::json;

namespace {

Error unsupported(const std::string& what) {
  return {ErrorCode::kUnsupported, what + " is not supported"};
}

json member(const json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() ? json() : *found;
}

}  // namespace

Result<Tokenizer> Tokenizer::load(const std::filesystem::path& folder) {
  const auto path = folder / "tokenizer.json";
  auto object = read_json(path);
  if (!object) return object.error();
  auto tokenizer = parse(*object);
  if (!tokenizer) {
    return in_context(shown(path), tokenizer.error(),
                      "use the tokenizer.json that belongs to a Qwen2-MoE model");
  }
  return tokenizer;
}

Result<Tokenizer> Tokenizer::parse(const json& object) try {
  Tokenizer result;
  if (!object.is_object()) return Error{ErrorCode::kBadFile, "expected a JSON object"};
  if (auto parsed = result.parse_normalizer(member(object, "normalizer")); !parsed)
    return parsed.error();
  auto pre_tokenizer = PreTokenizer::parse(member(object, "pre_tokenizer"));
  if (!pre_tokenizer) return pre_tokenizer.error();
  result.pre_tokenizer_ = std::move(*pre_tokenizer);
  auto bpe = Bpe::parse(member(object, "model"));
  if (!bpe) return bpe.error();
  result.bpe_ = std::move(*bpe);
  for (const auto& [token, id] : result.bpe_.vocab()) result.token_.emplace(id, token);
  for (const json& added : object.value("added_tokens", json::array())) {
    AddedToken token{added.at("id").get<int64_t>(), added.at("content").get<std::string>(),
                     added.value("single_word", false), added.value("lstrip", false),
                     added.value("rstrip", false)};
    result.token_[token.id] = token.content;
    const bool special = added.value("special", false);
    result.special_[token.id] = special;
    if (added.value("normalized", !special)) {
      auto content = result.normalize(token.content);
      if (!content) return content.error();
      token.content = std::move(*content);
      result.added_normalized_.add(std::move(token));
    } else {
      result.added_raw_.add(std::move(token));
    }
  }
  if (auto parsed = result.parse_post_processor(member(object, "post_processor")); !parsed)
    return parsed.error();
  if (auto parsed = result.parse_decoder(member(object, "decoder")); !parsed) return parsed.error();
  for (const auto& [id, token] : result.token_) result.size_ = std::max(result.size_, id + 1);
  return result;
} catch (const json::exception&) {
  return Error{ErrorCode::kBadFile,
               "a field is missing or has the wrong type, so this is not a tokenizer.json"};
}

Result<void> Tokenizer::parse_normalizer(const json& value) {
  if (value.is_null()) return {};
  const std::string type = value.value("type", "");
  if (type == "Sequence") {
    for (const json& part : value.at("normalizers")) {
      if (auto parsed = parse_normalizer(part); !parsed) return parsed.error();
    }
    return {};
  }
  if (type == "NFC") {
    normal_forms_.push_back(NormalForm::kNfc);
  } else if (type == "NFD") {
    normal_forms_.push_back(NormalForm::kNfd);
  } else if (type == "NFKC") {
    normal_forms_.push_back(NormalForm::kNfkc);
  } else if (type == "NFKD") {
    normal_forms_.push_back(NormalForm::kNfkd);
  } else {
    return unsupported("normalizer " + type);
  }
  return {};
}

Result<void> Tokenizer::parse_post_processor(const json& value) {
  if (value.is_null()) return {};
  const std::string type = value.value("type", "");
  if (type == "ByteLevel") return {};  // only moves offsets, which this class does not compute
  if (type == "Sequence") {
    for (const json& part : value.at("processors")) {
      if (auto parsed = parse_post_processor(part); !parsed) return parsed.error();
    }
    return {};
  }
  if (type != "TemplateProcessing") return unsupported("post_processor " + type);
  bool after_text = false;
  for (const json& item : value.at("single")) {
    if (item.contains("Sequence")) {
      after_text = true;
      continue;
    }
    const auto name = item.at("SpecialToken").at("id").get<std::string>();
    for (const json& id : value.at("special_tokens").at(name).at("ids")) {
      (after_text ? after_ : before_).push_back(id.get<int64_t>());
    }
  }
  return {};
}

Result<void> Tokenizer::parse_decoder(const json& value) {
  if (value.is_null()) return {};
  const std::string type = value.value("type", "");
  if (type == "Sequence") {
    for (const json& part : value.at("decoders")) {
      if (auto parsed = parse_decoder(part); !parsed) return parsed.error();
    }
    return {};
  }
  if (type != "ByteLevel") return unsupported("decoder " + type);
  byte_level_decoder_ = true;
  return {};
}

Result<std::string> Tokenizer::normalize(std::string_view text) const {
  std::string result(text);
  for (const NormalForm form : normal_forms_) {
    const bool compatibility = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
    const bool compose = form == NormalForm::kNfc || form == NormalForm::kNfkc;
    const auto options = static_cast<utf8proc_option_t>(
        UTF8PROC_STABLE | (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
        (compatibility ? UTF8PROC_COMPAT : 0));
    utf8proc_uint8_t* out = nullptr;
    const auto bytes = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(result.data()),
                                    static_cast<utf8proc_ssize_t>(result.size()), &out, options);
    const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(out, &std::free);
    if (bytes < 0)
      return Error{ErrorCode::kFailed, std::string("normalizer: ") + utf8proc_errmsg(bytes)};
    result.assign(reinterpret_cast<const char*>(out), static_cast<size_t>(bytes));
  }
  return result;
}

Result<void> Tokenizer::encode_plain(std::string_view text, std::vector<int64_t>& ids) const {
  auto normal = normalize(text);
  if (!normal) return normal.error();
  for (const AddedTokens::Piece& piece : added_normalized_.split(*normal)) {
    if (piece.id >= 0) {
      ids.push_back(piece.id);
      continue;
    }
    auto words = pre_tokenizer_.run(piece.text);
    if (!words) return words.error();
    for (const std::string& word : *words) bpe_.encode(word, ids);
  }
  return {};
}

Result<std::vector<int64_t>> Tokenizer::encode(std::string_view text) const {
  if (!is_utf8(text)) return Error{ErrorCode::kBadPrompt, "invalid UTF-8"};
  std::vector<int64_t> ids = before_;
  for (const AddedTokens::Piece& piece : added_raw_.split(text)) {
    if (piece.id >= 0) {
      ids.push_back(piece.id);
    } else if (auto encoded = encode_plain(piece.text, ids); !encoded) {
      return encoded.error();
    }
  }
  ids.insert(ids.end(), after_.begin(), after_.end());
  return ids;
}

std::string Tokenizer::decode(const std::vector<int64_t>& ids, bool skip_special) const {
  std::string bytes;
  for (const int64_t id : ids) {
    const auto found = token_.find(id);
    if (found == token_.end()) continue;
    const auto special = special_.find(id);
    if (skip_special && special != special_.end() && special->second) continue;
    bytes += byte_level_decoder_ ? from_byte_level(found->second) : found->second;
  }
  return utf8_lossy(bytes);
}

}  // namespace moetrace::engine
