#include "engine/bpe.hpp"

#include <nlohmann/json.hpp>
#include <queue>
#include <tuple>
#include <utility>

#include "common/utf8.hpp"

namespace moetrace::engine {

using nlohmann::json;

namespace {

bool is_set(const json& model, const char* key) {
  const auto found = model.find(key);
  return found != model.end() && !found->is_null() && *found != "" && *found != false &&
         *found != 0.0;
}

// "a b" or ["a", "b"]; false for anything else.
bool read_merge(const json& merge, std::string& left, std::string& right) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    left = merge[0].get<std::string>();
    right = merge[1].get<std::string>();
    return true;
  }
  if (!merge.is_string()) return false;
  const auto text = merge.get<std::string>();
  const size_t space = text.find(' ');
  if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) return false;
  left = text.substr(0, space);
  right = text.substr(space + 1);
  return true;
}

}  // namespace

Result<Bpe> Bpe::parse(const json& model) {
  const auto bad = [](const std::string& what) {
    return Error{ErrorCode::kBadFile, "model: " + what};
  };
  if (!model.is_object()) return bad("expected an object");
  if (const std::string type = model.value("type", "BPE"); type != "BPE") {
    return Error{ErrorCode::kUnsupported, "model: type " + type + " is not supported, only BPE"};
  }
  for (const char* option :
       {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"}) {
    if (is_set(model, option)) {
      return Error{ErrorCode::kUnsupported, std::string("model: ") + option + " is not supported"};
    }
  }
  if (!model.contains("vocab") || !model["vocab"].is_object()) return bad("vocab is missing");
  Bpe bpe;
  for (const auto& [token, id] : model["vocab"].items()) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > INT32_MAX)
      return bad("token " + token + ": expected an id from 0 to " + std::to_string(INT32_MAX));
    bpe.vocab_.emplace(token, id.get<int64_t>());
  }
  bpe.fuse_unknown_ = model.value("fuse_unk", false);
  bpe.ignore_merges_ = model.value("ignore_merges", false);
  if (model.contains("unk_token") && model["unk_token"].is_string()) {
    const auto found = bpe.vocab_.find(model["unk_token"].get<std::string>());
    if (found == bpe.vocab_.end())
      return bad("the vocab lacks the unk_token " + model["unk_token"].get<std::string>());
    bpe.unknown_ = found->second;
  }
  uint32_t rank = 0;
  std::string left;
  std::string right;
  for (const json& merge : model.value("merges", json::array())) {
    if (!read_merge(merge, left, right))
      return bad("merge " + std::to_string(rank) + ": expected a pair of tokens");
    const auto a = bpe.vocab_.find(left);
    const auto b = bpe.vocab_.find(right);
    const auto merged = bpe.vocab_.find(left + right);
    if (a == bpe.vocab_.end() || b == bpe.vocab_.end() || merged == bpe.vocab_.end()) {
      return bad("merge " + std::to_string(rank) + " (" + left + " " + right +
                 "): the vocab lacks one of its tokens, or the merged one");
    }
    bpe.merges_.insert_or_assign({a->second, b->second}, Merge{rank, merged->second});
    ++rank;
  }
  return bpe;
}

std::vector<int64_t> Bpe::characters(std::string_view piece) const {
  std::vector<int64_t> ids;
  bool after_unknown = false;
  for (size_t at = 0; at < piece.size();) {
    const size_t bytes = decode_utf8(piece, at).bytes;
    const auto found = vocab_.find(std::string(piece.substr(at, bytes)));
    const bool unknown = found == vocab_.end();
    if (!unknown) {
      ids.push_back(found->second);
    } else if (unknown_ >= 0 && !(fuse_unknown_ && after_unknown)) {
      ids.push_back(unknown_);
    }
    after_unknown = unknown;
    at += bytes;
  }
  return ids;
}

const Bpe::Merge* Bpe::find_merge(int64_t left, int64_t right) const {
  const auto found = merges_.find({left, right});
  return found == merges_.end() ? nullptr : &found->second;
}

void Bpe::encode(std::string_view piece, std::vector<int64_t>& out) const {
  if (ignore_merges_) {
    if (const auto whole = vocab_.find(std::string(piece)); whole != vocab_.end()) {
      out.push_back(whole->second);
      return;
    }
  }
  // A linked list of symbols, and a heap of possible merges: lowest rank first, and the leftmost of
  // equal ranks. This takes n log n steps for a piece of n characters. A heap entry goes stale when
  // one of its symbols is merged: the ids no longer give the entry's rank, and it is skipped.
  std::vector<int64_t> ids = characters(piece);
  const auto count = static_cast<int64_t>(ids.size());
  std::vector<int64_t> next(ids.size());
  std::vector<int64_t> previous(ids.size());
  using Candidate = std::tuple<uint32_t, int64_t>;  // rank, left symbol
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates;
  const auto consider = [&](int64_t left) {
    if (left < 0 || next[left] >= count) return;
    if (const Merge* merge = find_merge(ids[left], ids[next[left]]))
      candidates.emplace(merge->rank, left);
  };
  for (int64_t i = 0; i < count; ++i) next[i] = i + 1, previous[i] = i - 1;
  for (int64_t i = 0; i < count; ++i) consider(i);
  constexpr int64_t kGone = -1;
  while (!candidates.empty()) {
    const auto [rank, left] = candidates.top();
    candidates.pop();
    if (ids[left] == kGone || next[left] >= count) continue;
    const int64_t right = next[left];
    const Merge* merge = find_merge(ids[left], ids[right]);
    if (merge == nullptr || merge->rank != rank) continue;
    ids[left] = merge->id;
    ids[right] = kGone;
    next[left] = next[right];
    if (next[right] < count) previous[next[right]] = left;
    consider(previous[left]);
    consider(left);
  }
  for (const int64_t id : ids) {
    if (id != kGone) out.push_back(id);
  }
}

}  // namespace moetrace::engine
