#include "trace/route_scanner.hpp"

#include <cstring>

#include "trace/json_number.hpp"

namespace moetrace::trace {
namespace {

// Walks over a line; each function is false where the line has something else.
class Cursor {
 public:
  explicit Cursor(std::string_view line) : at_(line.data()), end_(line.data() + line.size()) {}

  [[nodiscard]] bool at_end() const { return at_ == end_; }

  // `text`, and a space after it where one stands.
  template <size_t Size>
  bool take(const char (&text)[Size]) {
    constexpr size_t kLength = Size - 1;
    if (static_cast<size_t>(end_ - at_) < kLength) return false;
    if (std::memcmp(at_, text, kLength) != 0) return false;
    at_ += kLength;
    if (at_ != end_ && *at_ == ' ') ++at_;
    return true;
  }

  // A whole number below 10^18: the general way takes care of larger ones.
  bool take(uint64_t& value) {
    const char* const first = at_;
    value = 0;
    while (at_ != end_ && static_cast<unsigned char>(*at_ - '0') < 10) {
      value = 10 * value + static_cast<uint64_t>(*at_++ - '0');
    }
    const auto length = at_ - first;
    return length > 0 && length <= 18 && (length == 1 || *first != '0');
  }

  bool take(std::optional<uint64_t>& value) { return take(value.emplace()); }

  bool take(float& value) {
    const char* const first = at_;
    while (at_ != end_ && *at_ != ',' && *at_ != ']') ++at_;
    const auto parsed = parse_float32({first, static_cast<size_t>(at_ - first)});
    if (parsed) value = *parsed;
    return parsed.has_value();
  }

  // A string of printable ASCII without escapes.
  bool take(std::optional<std::string_view>& text) {
    if (at_ == end_ || *at_ != '"') return false;
    const char* const first = ++at_;
    while (at_ != end_ && *at_ >= ' ' && *at_ <= '~' && *at_ != '"' && *at_ != '\\') ++at_;
    if (at_ == end_ || *at_ != '"') return false;
    text = std::string_view(first, static_cast<size_t>(at_++ - first));
    return true;
  }

  // A list of exactly `length` elements.
  template <class TakeOne>
  bool take_list(size_t length, TakeOne take_one) {
    if (!take("[")) return false;
    for (size_t index = 0; index < length; ++index) {
      if (index > 0 && !take(",")) return false;
      if (!take_one(index)) return false;
    }
    return take("]");
  }

 private:
  const char* at_;
  const char* end_;
};

}  // namespace

bool RouteScanner::scan(std::string_view line, Route& route) {
  if (limits_.top_k == 0) return false;
  Cursor cursor(line);
  uint64_t layer = 0;
  const bool begins = cursor.take("{") && cursor.take("\"type\":") && cursor.take("\"route\"") &&
                      cursor.take(",") && cursor.take("\"req_id\":") && cursor.take(route.req_id) &&
                      cursor.take(",") && cursor.take("\"token_idx\":") &&
                      cursor.take(route.token_idx) && cursor.take(",") &&
                      cursor.take("\"layer\":") && cursor.take(layer) && cursor.take(",");
  if (!begins || layer >= limits_.num_layers) return false;
  route.layer = static_cast<uint16_t>(layer);
  const uint32_t top_k = limits_.top_k_of(route.layer);
  const uint32_t ids = limits_.ids_of(route.layer);
  const auto take_id = [&](size_t index) {
    uint64_t id = 0;
    if (!cursor.take(id) || id >= ids) return false;
    ids_[index] = static_cast<uint16_t>(id);
    return true;
  };
  const auto take_weight = [&](size_t index) { return cursor.take(weights_[index]); };
  const bool lists = cursor.take("\"topk_ids\":") && cursor.take_list(top_k, take_id) &&
                     cursor.take(",") && cursor.take("\"topk_weights\":") &&
                     cursor.take_list(top_k, take_weight);
  if (!lists) return false;
  route.expert_ids = std::span(ids_.data(), top_k);
  route.weights = std::span(weights_.data(), top_k);
  if (cursor.take(",")) {
    return cursor.take("\"request\":") && cursor.take(route.request) && cursor.take(",") &&
           cursor.take("\"step\":") && cursor.take(route.step) && cursor.take(",") &&
           cursor.take("\"seq\":") && cursor.take(route.seq) && cursor.take("}") && cursor.at_end();
  }
  route.request.reset();
  route.step.reset();
  route.seq.reset();
  return cursor.take("}") && cursor.at_end();
}

}  // namespace moetrace::trace
