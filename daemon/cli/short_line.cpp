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
           word(line, "num_layers") + " layers, " + word(line, "num_experts") + " experts, top-" +
           word(line, "top_k");
  }
  if (type == "step")
    return "step " + word(line, "step") + ": " + word(line, "rows") + " rows, " +
           word(line, "layers") + " layers";
  if (type == "request")
    return "request " + word(line, "req_id") + " begins: " + word(line, "prompt_tokens") +
           " prompt tokens";
  if (type == "request_end") {
    return "request " + word(line, "req_id") + " ends: " + word(line, "generated_tokens") +
           " generated tokens, " + word(line, "status");
  }
  if (type == "loss") return "lost " + word(line, "dropped") + " rows: " + word(line, "cause");
  if (type == "torn") return "torn " + word(line, "count") + " rows";
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
