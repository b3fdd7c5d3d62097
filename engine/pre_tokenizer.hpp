// The pre_tokenizer part of tokenizer.json: cuts text into pieces. BPE merges only within a piece.
#pragma once

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/errors.hpp"

namespace moetrace::engine {

// The pattern of a Split, compiled once. Use it from one thread at a time.
class Pattern {
 public:
  // `regex` is in the syntax of tokenizer.json. What GPT-2's and Qwen2's files use of it means the
  // same in PCRE2.
  static Result<Pattern> compile(const std::string& regex);
  // A pattern that matches exactly this text.
  static Result<Pattern> literal(const std::string& text);

  struct Piece {
    size_t begin;
    size_t end;
    bool matched;
  };
  // Cuts `text` (valid UTF-8) into the matches and the text between them. The pieces cover it
  // without gaps; none is empty.
  Result<std::vector<Piece>> split(std::string_view text) const;

 private:
  struct Code;
  explicit Pattern(std::shared_ptr<const Code> code) : code_(std::move(code)) {}
  std::shared_ptr<const Code> code_;
};

class PreTokenizer {
 public:
  // Reads the JSON value; null leaves a text in one piece. kUnsupported names the unknown type.
  static Result<PreTokenizer> parse(const nlohmann::json& json);

  // The pieces, in the byte-level alphabet if the file has a ByteLevel step.
  Result<std::vector<std::string>> run(std::string_view text) const;

 private:
  enum class Kind { kSplit, kByteLevel };
  enum class Behavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };
  struct Step {
    Kind kind;
    std::vector<Pattern> pattern;  // none or one
    Behavior behavior = Behavior::kIsolated;
    bool invert = false;
    bool add_prefix_space = false;
  };
  static Result<void> parse_step(const nlohmann::json& json, std::vector<Step>& steps);
  static Result<void> apply(const Step& step, const std::string& piece,
                            std::vector<std::string>& out);

  std::vector<Step> steps_;
};

}  // namespace moetrace::engine
