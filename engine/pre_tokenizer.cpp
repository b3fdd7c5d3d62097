#include "engine/pre_tokenizer.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "engine/byte_level.hpp"

namespace moetrace::engine {

using nlohmann::json;

namespace {

// GPT-2's pattern, which ByteLevel uses if use_regex is set.
constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

std::string pcre2_message(int code) {
  PCRE2_UCHAR text[120] = {};
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

Error unsupported(const std::string& what) {
  return {ErrorCode::kUnsupported, "pre_tokenizer: " + what};
}

}  // namespace

struct Pattern::Code {
  pcre2_code* code = nullptr;
  pcre2_match_data* match = nullptr;
  Code() = default;
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() {
    pcre2_match_data_free(match);
    pcre2_code_free(code);
  }
};

Result<Pattern> Pattern::compile(const std::string& regex) {
  int why = 0;
  PCRE2_SIZE where = 0;
  auto compiled = std::make_shared<Code>();
  // PCRE2_UCP gives \s, \d and \w their Unicode meaning, as in the tokenizers library.
  compiled->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(regex.data()), regex.size(),
                                 PCRE2_UTF | PCRE2_UCP, &why, &where, nullptr);
  if (compiled->code == nullptr) {
    return unsupported("pattern: " + pcre2_message(why) + " at byte " + std::to_string(where));
  }
  // May fail: matching without the JIT is slower and gives the same result.
  pcre2_jit_compile(compiled->code, PCRE2_JIT_COMPLETE);
  compiled->match = pcre2_match_data_create_from_pattern(compiled->code, nullptr);
  if (compiled->match == nullptr)
    return Error{ErrorCode::kNoMemory, "pre_tokenizer: not enough memory for a pattern"};
  return Pattern(std::move(compiled));
}

Result<Pattern> Pattern::literal(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x80 && !std::isalnum(static_cast<unsigned char>(c)))
      escaped += '\\';
    escaped += c;
  }
  return compile(escaped);
}

Result<std::vector<Pattern::Piece>> Pattern::split(std::string_view text) const {
  std::vector<Piece> pieces;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  size_t done = 0;
  size_t from = 0;
  while (from < text.size()) {
    const int found = pcre2_match(code_->code, subject, text.size(), from, PCRE2_NO_UTF_CHECK,
                                  code_->match, nullptr);
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0)
      return Error{ErrorCode::kFailed, "pre_tokenizer: pattern: " + pcre2_message(found)};
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(code_->match);
    const size_t begin = ends[0];
    const size_t end = ends[1];
    if (end <= begin) {  // an empty match cuts nothing; continue after the next character
      from = std::max(begin, from) + 1;
      while (from < text.size() && (static_cast<unsigned char>(text[from]) & 0xC0) == 0x80) ++from;
      continue;
    }
    if (begin > done) pieces.push_back({done, begin, false});
    pieces.push_back({begin, end, true});
    done = from = end;
  }
  if (done < text.size()) pieces.push_back({done, text.size(), false});
  return pieces;
}

Result<PreTokenizer> PreTokenizer::parse(const json& value) {
  PreTokenizer result;
  if (value.is_null()) return result;
  if (auto parsed = parse_step(value, result.steps_); !parsed) return parsed.error();
  return result;
}

Result<void> PreTokenizer::parse_step(const json& value, std::vector<Step>& steps) {
  if (!value.is_object()) return unsupported("expected an object");
  const std::string type = value.value("type", "");
  Step step{};
  if (type == "Sequence") {
    for (const json& part : value.value("pretokenizers", json::array())) {
      if (auto parsed = parse_step(part, steps); !parsed) return parsed.error();
    }
    return {};
  }
  if (type == "ByteLevel") {
    step.kind = Kind::kByteLevel;
    step.add_prefix_space = value.value("add_prefix_space", true);
    if (value.value("use_regex", true)) {
      auto pattern = Pattern::compile(kGpt2Pattern);
      if (!pattern) return pattern.error();
      step.pattern.push_back(std::move(*pattern));
    }
  } else if (type == "Split" || type == "Digits") {
    step.kind = Kind::kSplit;
    const bool each_digit = value.value("individual_digits", false);
    const json wanted = type == "Split" ? value.value("pattern", json())
                                        : json{{"Regex", each_digit ? R"(\p{N})" : R"(\p{N}+)"}};
    const bool is_regex = wanted.is_object() && wanted.contains("Regex");
    if (!is_regex && !(wanted.is_object() && wanted.contains("String")))
      return unsupported("Split lacks a pattern, expected a Regex or a String");
    auto pattern = is_regex ? Pattern::compile(wanted["Regex"].get<std::string>())
                            : Pattern::literal(wanted["String"].get<std::string>());
    if (!pattern) return pattern.error();
    step.pattern.push_back(std::move(*pattern));
    step.invert = value.value("invert", false);
    const std::string behavior = value.value("behavior", "Isolated");
    const std::pair<const char*, Behavior> known[] = {
        {"Removed", Behavior::kRemoved},
        {"Isolated", Behavior::kIsolated},
        {"MergedWithPrevious", Behavior::kMergedWithPrevious},
        {"MergedWithNext", Behavior::kMergedWithNext},
        {"Contiguous", Behavior::kContiguous}};
    bool found = false;
    for (const auto& [name, meaning] : known) {
      if (behavior == name) step.behavior = meaning, found = true;
    }
    if (!found) return unsupported("Split behavior " + behavior + " is not supported");
  } else {
    return unsupported("type " + type + " is not supported");
  }
  steps.push_back(std::move(step));
  return {};
}

Result<void> PreTokenizer::apply(const Step& step, const std::string& piece,
                                 std::vector<std::string>& out) {
  const std::string text = step.add_prefix_space && !piece.starts_with(' ') ? " " + piece : piece;
  std::vector<Pattern::Piece> cuts = {{0, text.size(), false}};
  if (!step.pattern.empty()) {
    auto split = step.pattern.front().split(text);
    if (!split) return split.error();
    cuts = std::move(*split);
  }
  // SplitDelimiterBehavior of the tokenizers library: where the matches ("delimiters") go.
  std::vector<Pattern::Piece> kept;
  for (Pattern::Piece cut : cuts) {
    cut.matched = cut.matched != step.invert;
    const bool after = !kept.empty();
    if (step.behavior == Behavior::kRemoved) {
      if (!cut.matched) kept.push_back(cut);
    } else if (step.behavior == Behavior::kContiguous && after &&
               kept.back().matched == cut.matched) {
      kept.back().end = cut.end;
    } else if (step.behavior == Behavior::kMergedWithPrevious && cut.matched && after &&
               !kept.back().matched) {
      kept.back() = {kept.back().begin, cut.end, true};
    } else if (step.behavior == Behavior::kMergedWithNext && !cut.matched && after &&
               kept.back().matched) {
      kept.back() = {kept.back().begin, cut.end, false};
    } else {
      kept.push_back(cut);
    }
  }
  for (const Pattern::Piece& cut : kept) {
    const std::string_view bytes = std::string_view(text).substr(cut.begin, cut.end - cut.begin);
    out.push_back(step.kind == Kind::kByteLevel ? to_byte_level(bytes) : std::string(bytes));
  }
  return {};
}

Result<std::vector<std::string>> PreTokenizer::run(std::string_view text) const {
  std::vector<std::string> pieces;
  if (!text.empty()) pieces.emplace_back(text);
  for (const Step& step : steps_) {
    std::vector<std::string> next;
    for (const std::string& piece : pieces) {
      if (auto applied = apply(step, piece, next); !applied) return applied.error();
    }
    pieces = std::move(next);
  }
  return pieces;
}

}  // namespace moetrace::engine
