// Byte-pair merging within one piece of text.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/errors.hpp"

namespace moetrace::engine {

class Bpe {
 public:
  // Reads the "model" object of tokenizer.json; a merge is "a b" or ["a", "b"]. kUnsupported names
  // the option that this class does not implement.
  static Result<Bpe> parse(const nlohmann::json& model);

  // Appends the ids of one piece. A character outside the vocab becomes the unknown token; if the
  // model has no unknown token, the character is dropped.
  void encode(std::string_view piece, std::vector<int64_t>& ids) const;

  const std::unordered_map<std::string, int64_t>& vocab() const { return vocab_; }

 private:
  struct Merge {
    uint32_t rank;
    int64_t id;
  };
  struct PairHash {
    size_t operator()(const std::pair<int64_t, int64_t>& pair) const {
      return std::hash<uint64_t>()(static_cast<uint64_t>(pair.first) << 32 ^
                                   static_cast<uint64_t>(pair.second));
    }
  };
  std::vector<int64_t> characters(std::string_view piece) const;
  const Merge* find_merge(int64_t left, int64_t right) const;

  std::unordered_map<std::string, int64_t> vocab_;
  std::unordered_map<std::pair<int64_t, int64_t>, Merge, PairHash> merges_;
  int64_t unknown_ = -1;        // id of the unknown token; -1: the model has none
  bool fuse_unknown_ = false;   // neighbouring unknown characters give one unknown token
  bool ignore_merges_ = false;  // a piece that is itself a token is not merged
};

}  // namespace moetrace::engine
