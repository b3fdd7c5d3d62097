#include "daemon/cli/row_losses.hpp"

#include <algorithm>
#include <array>
#include <string>

#include "common/text.hpp"
#include "daemon/cli/json_keys.hpp"
#include "daemon/collector/lines.hpp"

namespace moetrace::cli {
namespace {

constexpr std::array<std::string_view, 9> kRouteKeys{
    "type", "req_id", "token_idx", "layer", "topk_ids", "topk_weights", "request", "step", "seq"};

// The elements of a list, as they stand in the line.
std::string_view list_in(std::string_view line, std::string_view key) {
  const std::size_t at = line.find('"' + std::string(key) + "\":[");
  if (at == std::string_view::npos) return {};
  const std::size_t begin = at + key.size() + 4;
  const std::size_t end = line.find(']', begin);
  return end == std::string_view::npos ? std::string_view() : line.substr(begin, end - begin);
}

std::string_view first_of(std::string_view& list) {
  const std::size_t comma = std::min(list.find(','), list.size());
  const std::string_view element = list.substr(0, comma);
  list.remove_prefix(std::min(comma + 1, list.size()));
  return element;
}

// The first weight that is written in another way; "" if none is.
std::string weight_that_differs(std::string_view line, std::string_view back) {
  std::string_view from = list_in(line, "topk_weights"), to = list_in(back, "topk_weights");
  while (!from.empty() && !to.empty()) {
    const std::string_view before = first_of(from), after = first_of(to);
    if (before == after) continue;
    return std::string(before) + ", which would come back as " + std::string(after) + ",";
  }
  return "";
}

}  // namespace

std::optional<Failure> lose_keys_of_row(Losses& losses, const LinePlace& place) {
  for (const std::string_view key : keys_of(place.text)) {
    if (std::ranges::find(kRouteKeys, key) != kRouteKeys.end()) continue;
    return losses.lose(Losses::Kind::kKeys, place.number, "its key \"" + std::string(key) + "\"");
  }
  return std::nullopt;
}

std::optional<Failure> lose_in_row(Losses& losses, const trace::Route& route,
                                   const LinePlace& place, std::string_view back) {
  using Kind = Losses::Kind;
  const auto keys = keys_of(place.text);
  const auto known = [](std::string_view key) {
    return std::ranges::find(kRouteKeys, key) != kRouteKeys.end();
  };
  if (!std::ranges::all_of(keys, known)) return lose_keys_of_row(losses, place);
  if (route.req_id) {
    const std::string name = json_string(*route.req_id);
    if (!back.starts_with("{\"type\":\"route\",\"req_id\":" + name + ",")) {
      return losses.lose(Kind::kNames, place.number,
                         "its \"req_id\" " + shortened(name, 40) +
                             ", which no request line gives to its request,");
    }
  }
  if (const std::string weight = weight_that_differs(place.text, back); !weight.empty())
    return losses.lose(Kind::kWeights, place.number, "its weight " + weight);
  return losses.lose(Kind::kSpelling, place.number,
                     "the way it is written (blanks, escapes, or the order or number of its keys)");
}

}  // namespace moetrace::cli
