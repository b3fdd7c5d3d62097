#include "python/vllm_steps/steps.hpp"

#include <algorithm>

namespace moetrace {
namespace {

// The client's request id: without the "-" and eight hexadecimal digits that vLLM appends.
std::string_view client_id(std::string_view id) {
  constexpr std::size_t kDigits = 8;
  if (id.size() <= kDigits || id[id.size() - kDigits - 1] != '-') return id;
  const std::string_view digits = id.substr(id.size() - kDigits);
  if (digits.find_first_not_of("0123456789abcdef") != std::string_view::npos) return id;
  return id.substr(0, id.size() - kDigits - 1);
}

}  // namespace

std::uint64_t Steps::begin(moetrace_producer* producer, std::string_view id,
                           std::optional<std::uint32_t> prompt_tokens, std::uint32_t cached_tokens,
                           std::optional<std::int64_t> most_tokens) {
  if (const auto found = live_.find(id); found != live_.end()) {
    Live& live = found->second;
    if (live.prompt_tokens != prompt_tokens) live.prompt_tokens.reset();  // its client sent more
    return live.number;
  }
  std::string name(client_id(id));
  if (names_.contains(name)) name = id;
  const std::uint64_t number = moetrace_request_begin(
      producer, name.c_str(), prompt_tokens.value_or(MOETRACE_UNKNOWN_TOKENS), cached_tokens);
  names_.insert(name);
  live_.emplace(id, Live{number, std::move(name), prompt_tokens, most_tokens});
  return number;
}

void Steps::end(moetrace_producer* producer, std::string_view id) {
  const auto found = live_.find(id);
  if (found == live_.end()) return;
  const Live& live = found->second;
  announce_end(producer, live);
  // The next request with this id is another one, even in the same place of the batch.
  const auto place = std::find(batch_.begin(), batch_.end(), live.number);
  if (place != batch_.end()) {
    *place = kNoRequest;
    batch_has_gaps_ = true;
  }
  names_.erase(live.name);
  live_.erase(found);
}

void Steps::end_all(moetrace_producer* producer) {
  for (const auto& [id, live] : live_) announce_end(producer, live);
  live_.clear();
  names_.clear();
}

std::uint64_t Steps::number_of(std::string_view id) const {
  const auto found = live_.find(id);
  return found == live_.end() ? kNoRequest : found->second.number;
}

void Steps::set_batch(std::vector<std::uint64_t> numbers) {
  requests_ = std::make_shared<const std::vector<std::uint64_t>>(numbers);
  batch_ = std::move(numbers);
  batch_has_gaps_ = false;
}

bool Steps::announce(moetrace_producer* producer, moetrace_cuda_stream stream,
                     const std::int32_t* starts, const std::int32_t* firsts,
                     std::int64_t began_ns) {
  Pass& pass = passes_[announced_ % kPassesKept];
  const std::size_t count = requests_->size();
  pass.requests = requests_;
  pass.reached.resize(count);
  for (std::size_t n = 0; n < count; ++n) pass.reached[n] = firsts[n] + starts[n + 1] - starts[n];
  ++announced_;
  return moetrace_step_begin_columns(producer, stream, static_cast<std::uint32_t>(count),
                                     rows_known() ? requests_->data() : nullptr, starts,
                                     positions_known() ? firsts : nullptr, began_ns) != 0;
}

void Steps::announce_end(moetrace_producer* producer, const Live& live) {
  const auto tokens = generated(live);
  const bool by_length = tokens && *tokens >= *live.most_tokens;
  // An asynchronous engine may have run one pass more than it kept tokens.
  const bool known = tokens && (by_length || !asynchronous_);
  moetrace_request_end(producer, live.number,
                       known ? static_cast<std::uint32_t>(*tokens) : MOETRACE_UNKNOWN_TOKENS,
                       by_length ? "length" : "finished");
}

// The number of sampled tokens: each position after the prompt was fed a sampled token, and the
// last pass sampled one more.
std::optional<std::int64_t> Steps::generated(const Live& live) const {
  if (speculative_ || !live.prompt_tokens || !live.most_tokens) return std::nullopt;
  for (std::size_t back = 1; back <= std::min<std::uint64_t>(announced_, kPassesKept); ++back) {
    const Pass& pass = passes_[(announced_ - back) % kPassesKept];
    const auto found = std::find(pass.requests->begin(), pass.requests->end(), live.number);
    if (found == pass.requests->end()) continue;
    const std::int64_t reached =
        pass.reached[static_cast<std::size_t>(found - pass.requests->begin())];
    return std::max<std::int64_t>(0, reached - *live.prompt_tokens + 1);
  }
  return std::nullopt;
}

}  // namespace moetrace
