#include "plotter/key_reader.hpp"

#include <limits>
#include <utility>

#include "plotter/json_number.hpp"

namespace moetrace::trace {
namespace {

namespace ondemand = simdjson::ondemand;

// Keys that nobody knows may nest this deeply.
constexpr int kMaxDepth = 64;

std::string_view trimmed(std::string_view token) {
  while (!token.empty() && (token.back() == ' ' || token.back() == '\t' || token.back() == '\r')) {
    token.remove_suffix(1);
  }
  return token;
}

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

bool KeyReader::fail(simdjson::error_code code) {
  error_ = {ErrorCode::kBadJson, std::string("not JSON: ") + simdjson::error_message(code)};
  return false;
}

bool KeyReader::wrong_type(std::string_view name, std::string_view expected,
                           std::string_view token) {
  constexpr size_t kShown = 24;
  std::string shown(token.substr(0, kShown));
  if (token.size() > kShown) shown += "…";
  return fail(quoted(name) + " must be " + std::string(expected) + ", not " + shown);
}

bool KeyReader::read(std::string_view, Value&, Seen) {
  return true;
}

bool KeyReader::read(std::string_view name, Value& value, uint64_t* out) {
  const std::string_view token = trimmed(value.raw_json_token());
  const auto parsed = parse_uint64(token);
  if (!parsed) return wrong_type(name, "a whole number", token);
  *out = *parsed;
  return true;
}

bool KeyReader::read(std::string_view name, Value& value, std::optional<uint64_t>* out) {
  const std::string_view token = trimmed(value.raw_json_token());
  *out = parse_uint64(token);
  return *out || token == "null" || wrong_type(name, "a whole number or null", token);
}

bool KeyReader::read(std::string_view name, Value& value, std::optional<int64_t>* out) {
  const std::string_view token = trimmed(value.raw_json_token());
  *out = parse_int64(token);
  return *out || token == "null" || wrong_type(name, "a whole number or null", token);
}

bool KeyReader::read(std::string_view name, Value& value, std::string_view* out) {
  const std::string_view token = value.raw_json_token();
  if (token.front() != '"') return wrong_type(name, "a string", trimmed(token));
  const auto code = value.get_string().get(*out);
  return code == simdjson::SUCCESS || fail(code);
}

bool KeyReader::read(std::string_view name, Value& value, std::optional<std::string_view>* out) {
  out->reset();
  const std::string_view token = trimmed(value.raw_json_token());
  if (token == "null") return true;
  if (token.front() != '"') return wrong_type(name, "a string or null", token);
  return read(name, value, &out->emplace());
}

bool KeyReader::check_layer(uint64_t layer) {
  if (layer < limits_.num_layers) return true;
  return fail("layer " + std::to_string(layer) + " is out of range (0 to " +
              std::to_string(limits_.num_layers - 1) + ")");
}

bool KeyReader::read(std::string_view name, Value& value, Layer layer) {
  uint64_t number = 0;
  if (!read(name, value, &number) || !check_layer(number)) return false;
  *layer.out = static_cast<uint16_t>(number);
  return true;
}

// Calls read_one(element, index) for each element of a list of at most `most`; the length goes to
// `length`.
template <class ReadOne>
bool KeyReader::read_list(std::string_view name, Value& value, size_t most, size_t& length,
                          ReadOne read_one) {
  const std::string_view token = trimmed(value.raw_json_token());
  if (token.front() != '[') return wrong_type(name, "a list", token);
  ondemand::array list;
  if (const auto code = value.get_array().get(list)) return fail(code);
  length = 0;
  for (auto result : list) {
    Value element;
    if (const auto code = result.get(element)) return fail(code);
    if (length == most) {
      return fail(quoted(name) + " has more than " + std::to_string(most) + " entries");
    }
    if (!read_one(element, length)) return false;
    ++length;
  }
  return true;
}

bool KeyReader::check_top_k(std::string_view name, size_t length) {
  if (length == limits_.top_k) return true;
  return fail(quoted(name) + " has " + std::to_string(length) + " entries, top_k is " +
              std::to_string(limits_.top_k));
}

bool KeyReader::read(std::string_view name, Value& value, IdList list) {
  size_t length = 0;
  const auto read_one = [&](Value& element, size_t index) {
    std::optional<uint64_t> id;
    if (!read(name, element, &id)) return false;
    if (id && *id >= limits_.num_experts) {
      return fail("expert id " + std::to_string(*id) + " is out of range (0 to " +
                  std::to_string(limits_.num_experts - 1) + ")");
    }
    ids_[index] = id ? static_cast<uint16_t>(*id) : kNoExpert;
    return true;
  };
  if (!read_list(name, value, ids_.size(), length, read_one)) return false;
  *list.out = std::span(ids_.data(), length);
  return check_top_k(name, length);
}

bool KeyReader::read_weight(std::string_view name, Value& value, float& out) {
  const std::string_view token = trimmed(value.raw_json_token());
  if (const auto parsed = parse_float32(token)) {
    out = *parsed;
    return true;
  }
  out = std::numeric_limits<float>::quiet_NaN();
  if (token == "null") return true;
  if (limits_.plain && (token == "NaN" || token == "Infinity" || token == "-Infinity")) return true;
  return wrong_type(name, "a list of float32 numbers or nulls", token);
}

bool KeyReader::read(std::string_view name, Value& value, WeightList list) {
  size_t length = 0;
  const auto read_one = [&](Value& element, size_t index) {
    return read_weight(name, element, weights_[index]);
  };
  if (!read_list(name, value, weights_.size(), length, read_one)) return false;
  *list.out = std::span(weights_.data(), length);
  return check_top_k(name, length);
}

bool KeyReader::read(std::string_view name, Value& value, LayerList list) {
  size_t length = 0;
  const auto read_one = [&](Value& element, size_t index) {
    return read(name, element, Layer{&layers_[index]});
  };
  if (!read_list(name, value, layers_.size(), length, read_one)) return false;
  *list.out = std::span(layers_.data(), length);
  return true;
}

// Walks over a value that nobody asked for, so that a line is either JSON as a whole or an error_.
bool KeyReader::skip(Value& value, int depth) {
  if (depth == kMaxDepth) return fail("nested too deeply");
  const std::string_view token = trimmed(value.raw_json_token());
  switch (token.front()) {
    case '"': {
      std::string_view text;
      const auto code = value.get_string().get(text);
      return code == simdjson::SUCCESS || fail(code);
    }
    case '[': {
      ondemand::array list;
      if (const auto code = value.get_array().get(list)) return fail(code);
      for (auto result : list) {
        Value element;
        if (const auto code = result.get(element)) return fail(code);
        if (!skip(element, depth + 1)) return false;
      }
      return true;
    }
    case '{': {
      Object object;
      if (const auto code = value.get_object().get(object)) return fail(code);
      for (auto result : object) {
        ondemand::field field;
        if (const auto code = std::move(result).get(field)) return fail(code);
        std::string_view name;
        if (const auto code = field.unescaped_key().get(name)) return fail(code);
        if (!skip(field.value(), depth + 1)) return false;
      }
      return true;
    }
    default:
      if (token == "true" || token == "false" || token == "null" || is_json_number(token)) {
        return true;
      }
      return fail(simdjson::TAPE_ERROR);
  }
}

// The key's text. Without a backslash in it, it is the bytes up to the quote.
bool KeyReader::key_name(ondemand::field& field, std::string_view& name) {
  const char* raw = field.key().raw();
  const char* end = raw;
  while (*end != '"' && *end != '\\') ++end;
  if (*end == '"') {
    name = {raw, static_cast<size_t>(end - raw)};
    return true;
  }
  const auto code = field.unescaped_key().get(name);
  return code == simdjson::SUCCESS || fail(code);
}

bool KeyReader::read_keys(Object& object, std::span<const Key> keys) {
  uint64_t seen = 0;
  size_t expected = 0;
  for (auto result : object) {
    ondemand::field field;
    if (const auto code = std::move(result).get(field)) return fail(code);
    std::string_view name;
    if (!key_name(field, name)) return false;
    const size_t index = find_key(keys, expected, name);
    if (index == keys.size()) {
      if (!skip(field.value(), 0)) return false;
      continue;
    }
    if ((seen >> index & 1U) != 0) return fail(quoted(name) + " is there twice");
    seen |= uint64_t{1} << index;
    expected = index + 1;
    const auto into = [&](auto slot) { return read(keys[index].name, field.value(), slot); };
    if (!std::visit(into, keys[index].slot)) return false;
  }
  for (size_t index = 0; index < keys.size(); ++index) {
    if ((seen >> index & 1U) == 0 && keys[index].presence == Presence::kRequired) {
      return fail("missing key " + quoted(keys[index].name));
    }
  }
  return true;
}

}  // namespace moetrace::trace
