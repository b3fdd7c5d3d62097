#include "daemon/cli/route_lines.hpp"

#include "daemon/cli/layer_entries.hpp"

namespace moetrace::cli {
namespace {

LayerTable layer_table(const trace::Meta& meta) {
  moetrace_ring_header header{};
  header.num_layers = meta.num_layers.value_or(MOETRACE_MAX_LAYERS);
  header.num_experts = *meta.num_experts;
  header.top_k = meta.top_k;
  return {header, layer_entries(meta, header.num_layers)};
}

}  // namespace

RouteLines::RouteLines(const trace::Meta& meta) : text_(layer_table(meta)) {}

void RouteLines::note(const trace::Content& content) {
  const auto* const begins = std::get_if<trace::Request>(&content);
  const auto* const ends = std::get_if<trace::RequestEnd>(&content);
  if (begins == nullptr && ends == nullptr) return;
  if (begins != nullptr) {
    names_[begins->request] = begins->req_id ? json_string(*begins->req_id) : "null";
  } else {
    names_.erase(ends->request);
  }
  known_ = false;
}

std::string_view RouteLines::line(const trace::Route& route) {
  if (!known_ || route.request != origin_.request) {
    const auto found = route.request ? names_.find(*route.request) : names_.end();
    origin_ = route_origin(found != names_.end() ? found->second : "null", route.request);
    known_ = true;
  }
  if (step_ != route.step) {
    step_ = route.step;
    step_text_ = RouteText::step_text(*step_);
  }
  buffer_.clear();
  text_.append(buffer_, origin_, route.token_idx, route.layer, route.expert_ids.data(),
               route.weights.data(), step_text_, *route.seq);
  return buffer_.view();
}

}  // namespace moetrace::cli
