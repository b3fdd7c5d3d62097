#include "daemon/cli/short_line.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/text.hpp"

namespace moetrace::cli {
namespace {

using nlohmann::json;

// A value as it reads in a sentence: strings bare, null as a question mark.
std::string word(const json& line, const char* key) {
  const auto found = line.find(key);
  if (found == line.end() || found->is_null()) return "?";
  if (found->is_number_unsigned()) return grouped(found->get<std::uint64_t>());
  return found->is_string() ? found->get<std::string>() : found->dump();
}

// As word(), with what it counts: "1 row", "2 rows", "? rows".
std::string number_of(const json& line, const char* key, const std::string& thing) {
  const auto found = line.find(key);
  const bool known = found != line.end() && found->is_number_unsigned();
  return known ? counted(found->get<std::uint64_t>(), thing) : word(line, key) + " " + thing + "s";
}

std::string route(const json& line) {
  std::string text = word(line, "req_id") + " token " + word(line, "token_idx") + " layer " +
                     word(line, "layer") + ":";
  const json& ids = line.at("topk_ids");
  const json& weights = line.at("topk_weights");
  for (std::size_t n = 0; n < std::min(ids.size(), weights.size()); ++n) {
    text += "  " + (ids[n].is_null() ? "?" : ids[n].dump()) + " ";
    text += weights[n].is_number() ? decimals(weights[n].get<double>(), 4) : "?";
  }
  return text;
}

std::string stats(const json& line) {
  return "stats up to step " + word(line, "steps_done") + ": " + word(line, "attempted") +
         " attempted, " + word(line, "delivered") + " delivered, " + word(line, "filtered") +
         " filtered, " + word(line, "dropped") + " dropped";
}

std::string describe(const json& line) {
  const std::string type = line.value("type", "");
  if (type == "route") return route(line);
  if (type == "stats") return stats(line);
  if (type == "meta") {
    return "trace " + word(line, "trace_id") + ": " + word(line, "model_id") + ", " +
           number_of(line, "num_layers", "layer") + ", " +
           number_of(line, "num_experts", "expert") + ", top-" + word(line, "top_k");
  }
  if (type == "step")
    return "step " + word(line, "step") + ": " + number_of(line, "rows", "row") + ", " +
           number_of(line, "layers", "layer");
  if (type == "request")
    return "request " + word(line, "req_id") +
           " begins: " + number_of(line, "prompt_tokens", "prompt token");
  if (type == "request_end") {
    return "request " + word(line, "req_id") +
           " ends: " + number_of(line, "generated_tokens", "generated token") + ", " +
           word(line, "status");
  }
  if (type == "loss")
    return "lost " + number_of(line, "dropped", "row") + ": " + word(line, "cause");
  if (type == "torn") return "torn " + number_of(line, "count", "row");
  if (type == "end") {
    return "end: " + word(line, "attempted") + " attempted, " + word(line, "delivered") +
           " delivered, " + word(line, "filtered") + " filtered, " + word(line, "dropped") +
           " dropped, " + word(line, "torn") + " torn, " + word(line, "status");
  }
  return line.dump();
}

}  // namespace

std::string short_line(std::string_view json_line) {
  try {
    return describe(json::parse(json_line));
  } catch (const json::exception&) {
    return std::string(json_line);
  }
}

}  // namespace moetrace::cli
