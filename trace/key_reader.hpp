// Reads the keys of one JSON object into variables, by a table that says which key goes where.
// Internal to the trace reader.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "trace/errors.hpp"
#include "trace/json_cursor.hpp"
#include "trace/line_parser.hpp"
#include "trace/trace_lines.hpp"

namespace moetrace::trace {

// Where a value goes. The optional ones take null.
struct Seen {};  // was read before: nothing to do
struct Layer {
  uint16_t* out;
};
struct IdList {  // expert ids; null is kNoExpert
  std::span<const uint16_t>* out;
};
struct WeightList {  // weights; null is NaN; of a plain log null instead of the list, too
  std::span<const float>* out;
};
struct LayerList {
  std::span<const uint16_t>* out;
};
struct Key;
struct Object {  // an object with these keys, each under the same rules
  const Key* keys;
  size_t count;
  bool* present;  // becomes true
};
using Slot = std::variant<Seen, uint64_t*, std::optional<uint64_t>*, std::optional<int64_t>*,
                          std::optional<bool>*, std::string_view*, std::optional<std::string_view>*,
                          Layer, IdList, WeightList, LayerList, Object>;

enum class Presence : uint8_t { kRequired, kOptional };

struct Key {
  std::string_view name;
  Slot slot;
  Presence presence = Presence::kRequired;
};

class KeyReader {
 public:
  explicit KeyReader(const Limits& limits) : limits_(limits) {}

  // Reads the line's string under "type", wherever it stands, and stays before the object.
  bool read_type(std::string_view line, std::string_view& type);
  // Reads all keys of that line (at most 63 wanted ones), and that nothing follows. What the slots
  // point to is valid until the next line, and as long as the line is. False: see error().
  bool read_keys(std::span<const Key> keys);

  // Checks a row, of which all keys have been read, against the limits of its layer. Weights that
  // it gave none of become as many unknown ones.
  bool complete(Route& route);

  [[nodiscard]] const Limits& limits() const { return limits_; }
  void set_limits(const Limits& limits) { limits_ = limits; }

  // Sets error() and returns false, so that a caller can return what this returns.
  bool fail(std::string why);
  [[nodiscard]] const Error& error() const { return error_; }

 private:
  bool not_json(const std::string& why);
  bool wrong_type(std::string_view name, std::string_view expected, std::string_view token);
  // Calls read_one(name) for each key; read_one reads its value.
  template <class ReadOne>
  bool read_object(ReadOne read_one);
  // Calls read_one(index) for each of at most `most` elements.
  template <class ReadOne>
  bool read_list(std::string_view name, size_t most, size_t& length, ReadOne read_one);
  bool check_layer(uint64_t layer);
  bool read_weight(std::string_view name, float& out);
  bool check_expert(uint64_t id);
  bool check_not_empty(std::string_view name, size_t length);
  bool check_top_k(std::string_view name, size_t length, uint16_t layer);

  bool read(std::string_view name, Seen slot);
  bool read(std::string_view name, uint64_t* slot);
  bool read(std::string_view name, std::optional<uint64_t>* slot);
  bool read(std::string_view name, std::optional<int64_t>* slot);
  bool read(std::string_view name, std::optional<bool>* slot);
  bool read(std::string_view name, std::string_view* slot);
  bool read(std::string_view name, std::optional<std::string_view>* slot);
  bool read(std::string_view name, Layer slot);
  bool read(std::string_view name, IdList slot);
  bool read(std::string_view name, WeightList slot);
  bool read(std::string_view name, LayerList slot);
  bool read(std::string_view name, Object slot);
  // The keys of the object here. `owner`: the key that it stands under; "": it is the line.
  bool read_members(std::string_view owner, std::span<const Key> keys);

  // Walks over the value of an unknown key, so that a line is either JSON as a whole or an error.
  bool skip(int depth);

  JsonCursor cursor_;
  Limits limits_;
  std::array<uint16_t, kMaxTopK> ids_{};
  std::array<float, kMaxTopK> weights_{};
  std::array<uint16_t, kMaxLayers> layers_{};
  Error error_{ErrorCode::kBadLine, {}};
};

}  // namespace moetrace::trace
