#include "trace/key_reader.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "trace/json_number.hpp"

namespace moetrace::trace {
namespace {

// The deepest nesting of a key that the reader does not know.
constexpr int kMaxDepth = 64;

std::string quoted(std::string_view name) {
  return "\"" + std::string(name) + "\"";
}

// Finds a key among those wanted. Lines nearly always have them in the order of the table, so
// `expected` comes first.
size_t find_key(std::span<const Key> keys, size_t expected, std::string_view name) {
  if (expected < keys.size() && keys[expected].name == name) return expected;
  size_t index = 0;
  while (index < keys.size() && keys[index].name != name) ++index;
  return index;
}

}  // namespace

bool KeyReader::fail(std::string why) {
  error_ = {ErrorCode::kBadLine, std::move(why)};
  return false;
}

bool KeyReader::not_json(const std::string& why) {
  error_ = {ErrorCode::kBadJson,
            "not JSON: " + (cursor_.token().empty() ? "the line ends in the middle" : why)};
  return false;
}

bool KeyReader::wrong_type(std::string_view name, std::string_view expected,
                           std::string_view token) {
  if (token.empty()) return not_json({});
  constexpr size_t kShown = 24;
  std::string shown(token.substr(0, kShown));
  if (token.size() > kShown) shown += "…";
  return fail(quoted(name) + " must be " + std::string(expected) + ", not " + shown);
}

bool KeyReader::read(std::string_view, Seen) {
  return skip(0);
}

bool KeyReader::read(std::string_view name, uint64_t* out) {
  const std::string_view token = cursor_.token();
  const auto parsed = parse_uint64(token);
  if (!parsed) return wrong_type(name, "a whole number", token);
  *out = *parsed;
  cursor_.pass(token);
  return true;
}

bool KeyReader::read(std::string_view name, std::optional<uint64_t>* out) {
  const std::string_view token = cursor_.token();
  *out = parse_uint64(token);
  if (!*out && token != "null") return wrong_type(name, "a whole number or null", token);
  cursor_.pass(token);
  return true;
}

bool KeyReader::read(std::string_view name, std::optional<int64_t>* out) {
  const std::string_view token = cursor_.token();
  *out = parse_int64(token);
  if (!*out && token != "null") return wrong_type(name, "a whole number or null", token);
  cursor_.pass(token);
  return true;
}

bool KeyReader::read(std::string_view name, std::optional<bool>* out) {
  const std::string_view token = cursor_.token();
  if (token != "true" && token != "false" && token != "null")
    return wrong_type(name, "true, false or null", token);
  *out = token == "null" ? std::nullopt : std::optional(token == "true");
  cursor_.pass(token);
  return true;
}

bool KeyReader::read(std::string_view name, Object object) {
  if (const std::string_view token = cursor_.token(); token != "{")
    return wrong_type(name, "an object", token);
  *object.present = true;
  return read_members(name, {object.keys, object.count});
}

bool KeyReader::read(std::string_view name, std::string_view* out) {
  const std::string_view token = cursor_.token();
  if (!token.starts_with('"')) return wrong_type(name, "a string", token);
  return cursor_.take_string(*out) || not_json("a string with a wrong escape");
}

bool KeyReader::read(std::string_view name, std::optional<std::string_view>* out) {
  out->reset();
  const std::string_view token = cursor_.token();
  if (token == "null") {
    cursor_.pass(token);
    return true;
  }
  if (!token.starts_with('"')) return wrong_type(name, "a string or null", token);
  return read(name, &out->emplace());
}

bool KeyReader::check_layer(uint64_t layer) {
  if (layer < limits_.num_layers) return true;
  return fail("layer " + std::to_string(layer) + " is out of range (0 to " +
              std::to_string(limits_.num_layers - 1) + ")");
}

bool KeyReader::read(std::string_view name, Layer layer) {
  uint64_t number = 0;
  if (!read(name, &number) || !check_layer(number)) return false;
  *layer.out = static_cast<uint16_t>(number);
  return true;
}

template <class ReadOne>
bool KeyReader::read_list(std::string_view name, size_t most, size_t& length, ReadOne read_one) {
  length = 0;
  if (!cursor_.take('[')) return wrong_type(name, "a list", cursor_.token());
  if (cursor_.take(']')) return true;
  do {
    if (length == most) {
      return fail(quoted(name) + " has more than " + std::to_string(most) + " entries");
    }
    if (!read_one(length)) return false;
    ++length;
  } while (cursor_.take(','));
  return cursor_.take(']') || not_json("a list goes on with , or ]");
}

bool KeyReader::check_expert(uint64_t id) {
  if (id < limits_.num_experts) return true;
  const std::string out = "expert id " + std::to_string(id) + " is out of range (0 to " +
                          std::to_string(limits_.num_experts - 1);
  if (!limits_.experts_given || id >= kMaxExperts) return fail(out + ")");
  error_ = {ErrorCode::kTooFewExperts,
            out + ", as given): the model has at least " + std::to_string(id + 1) + " experts"};
  return false;
}

bool KeyReader::check_not_empty(std::string_view name, size_t length) {
  if (length > 0) return true;
  if (limits_.top_k == 0) return fail(quoted(name) + " is an empty list");
  return fail(quoted(name) + " has 0 entries, top_k is " + std::to_string(limits_.top_k));
}

bool KeyReader::check_top_k(std::string_view name, size_t length, uint16_t layer) {
  const uint32_t top_k = limits_.top_k_of(layer);
  if (top_k == 0 || length == top_k) return true;
  const std::string of_layer = top_k == limits_.top_k ? "" : " of layer " + std::to_string(layer);
  return fail(quoted(name) + " has " + std::to_string(length) + " entries, top_k" + of_layer +
              " is " + std::to_string(top_k));
}

bool KeyReader::read(std::string_view name, IdList list) {
  size_t length = 0;
  const auto read_one = [&](size_t index) {
    std::optional<uint64_t> id;
    if (!read(name, &id)) return false;
    if (id && !check_expert(*id)) return false;
    ids_[index] = id ? static_cast<uint16_t>(*id) : kNoExpert;
    return true;
  };
  if (!read_list(name, ids_.size(), length, read_one)) return false;
  *list.out = std::span(ids_.data(), length);
  return check_not_empty(name, length);
}

bool KeyReader::read_weight(std::string_view name, float& out) {
  const std::string_view token = cursor_.token();
  const auto parsed = parse_float32(token);
  const bool none =
      token == "null" ||
      (limits_.plain && (token == "NaN" || token == "Infinity" || token == "-Infinity"));
  if (!parsed && !none) return wrong_type(name, "a list of float32 numbers or nulls", token);
  out = parsed.value_or(std::numeric_limits<float>::quiet_NaN());
  cursor_.pass(token);
  return true;
}

bool KeyReader::read(std::string_view name, WeightList list) {
  if (const std::string_view token = cursor_.token(); limits_.plain && token == "null") {
    *list.out = {};
    cursor_.pass(token);
    return true;
  }
  size_t length = 0;
  const auto read_one = [&](size_t index) { return read_weight(name, weights_[index]); };
  if (!read_list(name, weights_.size(), length, read_one)) return false;
  *list.out = std::span(weights_.data(), length);
  return check_not_empty(name, length);
}

bool KeyReader::complete(Route& route) {
  const size_t entries = route.expert_ids.size();
  if (!check_top_k("topk_ids", entries, route.layer)) return false;
  const uint32_t ids = limits_.ids_of(route.layer);
  for (const uint16_t id : route.expert_ids) {
    if (id == kNoExpert || id < ids) continue;
    return fail("expert id " + std::to_string(id) + " is out of range (0 to " +
                std::to_string(ids - 1) + " in layer " + std::to_string(route.layer) + ")");
  }
  if (route.weights.empty()) {
    std::fill_n(weights_.begin(), entries, std::numeric_limits<float>::quiet_NaN());
    route.weights = std::span(weights_.data(), entries);
    return true;
  }
  if (!check_top_k("topk_weights", route.weights.size(), route.layer)) return false;
  if (route.weights.size() == entries) return true;
  return fail("\"topk_weights\" has " + std::to_string(route.weights.size()) +
              " entries, \"topk_ids\" " + std::to_string(entries));
}

bool KeyReader::read(std::string_view name, LayerList list) {
  size_t length = 0;
  const auto read_one = [&](size_t index) { return read(name, Layer{&layers_[index]}); };
  if (!read_list(name, layers_.size(), length, read_one)) return false;
  *list.out = std::span(layers_.data(), length);
  return true;
}

template <class ReadOne>
bool KeyReader::read_object(ReadOne read_one) {
  if (!cursor_.take('{')) return not_json("an object begins with {");
  if (cursor_.take('}')) return true;
  do {
    std::string_view name;
    if (!cursor_.take_string(name)) return not_json("a key is a string");
    if (!cursor_.take(':')) return not_json("a key is followed by :");
    if (!read_one(name)) return false;
  } while (cursor_.take(','));
  return cursor_.take('}') || not_json("an object goes on with , or }");
}

bool KeyReader::skip(int depth) {
  if (depth == kMaxDepth) return fail("nested too deeply");
  const std::string_view token = cursor_.token();
  if (token == "[") {
    size_t ignored = 0;
    return read_list({}, std::numeric_limits<size_t>::max(), ignored,
                     [&](size_t) { return skip(depth + 1); });
  }
  if (token == "{") return read_object([&](std::string_view) { return skip(depth + 1); });
  if (token.starts_with('"')) {
    std::string_view text;
    return cursor_.take_string(text) || not_json("a string with a wrong escape");
  }
  cursor_.pass(token);
  return token == "true" || token == "false" || token == "null" || is_json_number(token) ||
         not_json("expected a value");
}

bool KeyReader::read_type(std::string_view line, std::string_view& type) {
  cursor_.start(line);
  if (!is_json_text(line)) return not_json("invalid UTF-8 or a control character");
  bool found = false;
  bool text = false;
  const bool whole = read_object([&](std::string_view name) {
    if (name != "type") return skip(0);
    found = true;
    text = cursor_.take_string(type);
    return false;  // read_keys looks at the rest
  });
  if (!found) return whole && fail("missing key \"type\"");
  if (!text) return fail("\"type\" must be a string");
  cursor_.rewind();
  return true;
}

bool KeyReader::read_keys(std::span<const Key> keys) {
  if (!read_members({}, keys)) return false;
  return cursor_.at_end() || not_json("something follows the object");
}

bool KeyReader::read_members(std::string_view owner, std::span<const Key> keys) {
  uint64_t seen = 0;
  size_t expected = 0;
  const bool object = read_object([&](std::string_view name) {
    const size_t index = find_key(keys, expected, name);
    if (index == keys.size()) return skip(0);
    if ((seen >> index & 1U) != 0) return fail(quoted(name) + " comes twice");
    seen |= uint64_t{1} << index;
    expected = index + 1;
    return std::visit([&](auto slot) { return read(keys[index].name, slot); }, keys[index].slot);
  });
  if (!object) return false;
  for (size_t index = 0; index < keys.size(); ++index) {
    if ((seen >> index & 1U) == 0 && keys[index].presence == Presence::kRequired) {
      return fail("missing key " + quoted(keys[index].name) +
                  (owner.empty() ? "" : " in " + quoted(owner)));
    }
  }
  return true;
}

}  // namespace moetrace::trace
