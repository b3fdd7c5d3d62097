#include "trace/row_routes.hpp"

namespace moetrace::trace {
namespace {

std::optional<std::uint64_t> known(std::int64_t value) {
  return value < 0 ? std::nullopt : std::optional(static_cast<std::uint64_t>(value));
}

}  // namespace

void RowRoutes::set_layers(const Meta& meta) {
  if (!meta.layers) return;
  for (std::uint32_t layer = 0; layer < kMaxLayers; ++layer) {
    top_k_.push_back(meta.top_k_of(static_cast<std::uint16_t>(layer)));
  }
}

void RowRoutes::note(const Content& content) {
  const auto* const begins = std::get_if<Request>(&content);
  const auto* const ends = std::get_if<RequestEnd>(&content);
  if (begins == nullptr && ends == nullptr) return;
  if (begins != nullptr) {
    auto& name = names_[begins->request];
    name.reset();
    if (begins->req_id) name = *begins->req_id;
  } else {
    names_.erase(ends->request);
  }
  last_ = -1;  // its name may have moved
  last_name_.reset();
}

void RowRoutes::take(const RowRun& run, Content& content) {
  run_ = run;
  next_ = 0;
  next(content);
}

bool RowRoutes::next(Content& content) {
  if (next_ == run_.size()) return false;
  auto* route = std::get_if<Route>(&content);
  if (route == nullptr) route = &content.emplace<Route>();
  fill(*route);
  return true;
}

void RowRoutes::fill(Route& route) {
  const std::size_t row = next_++;
  const std::size_t k = run_.expert_ids.size() / run_.size();
  if (run_.request[row] != last_) {
    last_ = run_.request[row];
    last_name_.reset();
    const auto found = names_.find(static_cast<std::uint64_t>(last_));
    if (found != names_.end() && found->second) last_name_ = *found->second;
  }
  route.req_id = last_name_;
  route.token_idx = known(run_.token_idx[row]);
  route.layer = run_.layer[row];
  const std::size_t own_k = top_k_.empty() ? k : top_k_[route.layer];
  route.expert_ids = run_.expert_ids.subspan(row * k, own_k);
  route.weights = run_.weights.subspan(row * k, own_k);
  route.request = known(run_.request[row]);
  route.step = known(run_.step[row]);
  route.seq = known(run_.seq[row]);
}

}  // namespace moetrace::trace
