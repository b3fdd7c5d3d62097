#include "trace/live_requests.hpp"

#include <algorithm>
#include <array>

namespace moetrace::trace {
namespace {

// What the adapters and the engine write. Any other text is allowed.
constexpr std::array<std::string_view, 6> kStatuses = {"stop",      "length", "finished",
                                                       "cancelled", "error",  "forward"};

std::string quoted(std::optional<std::string_view> id) {
  return id ? "\"" + std::string(*id) + "\"" : "null";
}

std::string named(std::uint64_t number, const std::optional<std::string>& id) {
  return "request " + std::to_string(number) + (id ? " (" + quoted(id) + ")" : "");
}

bool same(std::optional<std::string_view> a, const std::optional<std::string>& b) {
  return a.has_value() == b.has_value() && (!a || *a == *b);
}

// Token counts have 32 bits in the ring, and the largest one stands for null.
std::string check_tokens(const char* key, std::optional<std::uint64_t> tokens) {
  if (!tokens || *tokens < UINT32_MAX) return {};
  return "\"" + std::string(key) + "\" is " + std::to_string(*tokens) +
         ": expected at most 2^32 - 2, the most that a ring holds";
}

}  // namespace

void LiveRequests::begin_late(bool known) {
  if (known) ++file_;
  joined_ = known;
  late_ = late_ || !known;
}

// A live request of the part before this one.
std::string LiveRequests::continue_live(const Request& request) {
  const auto found = live_.find(request.request);
  if (found == live_.end()) {
    return "request " + std::to_string(request.request) +
           " was not live at the end of the part before";
  }
  Live& before = found->second;
  if (before.named_in == file_) return "duplicate request " + std::to_string(request.request);
  before.named_in = file_;
  if (same(request.req_id, before.id) && request.prompt_tokens == before.prompt_tokens &&
      request.cached_tokens == before.cached_tokens) {
    return {};
  }
  return named(request.request, before.id) + " is not as it was in the part before";
}

std::string LiveRequests::begin(const Request& request) {
  if (joined_ && !request.event) return continue_live(request);
  if (live_.contains(request.request) ||
      (request.event && last_number_ && request.request <= *last_number_)) {
    return "duplicate request " + std::to_string(request.request);
  }
  if (std::string why = check_tokens("prompt_tokens", request.prompt_tokens); !why.empty()) {
    return why;
  }
  if (std::string why = check_tokens("cached_tokens", request.cached_tokens); !why.empty()) {
    return why;
  }
  Live live{.id = {},
            .prompt_tokens = request.prompt_tokens,
            .cached_tokens = request.cached_tokens,
            .last_position = {},
            .named_in = file_,
            .whole = request.event.has_value()};
  if (request.req_id) live.id = *request.req_id;
  if (request.prompt_tokens && request.cached_tokens &&
      *request.cached_tokens > *request.prompt_tokens) {
    warnings_.add(Strange::kMoreCachedThanPrompt, line_, [&] {
      return named(request.request, live.id) + " has " + std::to_string(*request.cached_tokens) +
             " cached tokens and a prompt of " + std::to_string(*request.prompt_tokens);
    });
  }
  live_.emplace(request.request, std::move(live));
  if (!last_number_ || request.request > *last_number_) last_number_ = request.request;
  ++begun_;
  return {};
}

std::string LiveRequests::end(const RequestEnd& end) {
  if (std::string why = check_tokens("generated_tokens", end.generated_tokens); !why.empty()) {
    return why;
  }
  if (std::find(kStatuses.begin(), kStatuses.end(), *end.status) == kStatuses.end()) {
    warnings_.add(Strange::kUnknownStatus, line_, [&] {
      return "request " + std::to_string(end.request) + " ends with status " + quoted(end.status);
    });
  }
  const auto found = live_.find(end.request);
  if (found == live_.end()) {
    // A collector that came late may have found no name for it.
    if (late_ && !end.req_id) return {};
    return "request " + std::to_string(end.request) + " ends without being live";
  }
  if (!same(end.req_id, found->second.id)) {
    return "request " + std::to_string(end.request) +
           " has another req_id than when it began: " + quoted(end.req_id) + ", not " +
           quoted(found->second.id);
  }
  compare_rows(end, found->second);
  live_.erase(found);
  return {};
}

// A request of P prompt and G generated tokens has rows at the positions up to P + G - 2: its last
// token is never fed. One that was cancelled early may have rows of its prompt and no token.
void LiveRequests::compare_rows(const RequestEnd& end, const Live& request) {
  if (!request.prompt_tokens || !end.generated_tokens) return;
  const std::uint64_t generated = *end.generated_tokens;
  const std::uint64_t rows = *request.prompt_tokens + (generated > 0 ? generated - 1 : 0);
  const auto says = [&] {
    return named(end.request, request.id) + " has a prompt of " +
           std::to_string(*request.prompt_tokens) + " tokens and " + std::to_string(generated) +
           " generated ones, so " + std::to_string(rows) + " positions, but " +
           (request.last_position
                ? "its last row is at position " + std::to_string(*request.last_position)
                : std::string("it has no rows"));
  };
  if (request.last_position && *request.last_position >= rows) {
    warnings_.add(Strange::kGenerated, line_, says);
    return;
  }
  if (generated == 0 || !request.whole) return;
  const bool reached = request.last_position ? *request.last_position + 1 == rows
                                             : rows <= request.cached_tokens.value_or(0);
  if (reached || short_++ > 0) return;
  short_line_ = line_;
  short_text_ = says();
}

std::string LiveRequests::take(const Route& route) {
  if (!route.request) {
    nameless_rows_ = true;
    return route.req_id ? "has a req_id without a \"request\"" : "";
  }
  const auto found = live_.find(*route.request);
  if (found == live_.end()) {
    return "belongs to request " + std::to_string(*route.request) + ", which is not live here";
  }
  Live& request = found->second;
  if (!same(route.req_id, request.id)) {
    return "req_id is " + quoted(route.req_id) + ", but request " + std::to_string(*route.request) +
           " is " + quoted(request.id);
  }
  if (!route.token_idx) {
    request.whole = false;
  } else if (!request.last_position || *route.token_idx > *request.last_position) {
    request.last_position = route.token_idx;
  }
  return {};
}

void LiveRequests::finish(bool closed, bool complete) {
  if (complete && !late_ && !nameless_rows_) {
    warnings_.add(
        Strange::kGenerated, short_line_, [this] { return short_text_; }, short_);
  }
  if (!closed || live_.empty()) return;
  const auto& [number, request] = *std::min_element(
      live_.begin(), live_.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::string what = named(number, request.id) + " has no request_end line";
  warnings_.add(
      Strange::kRequestNotEnded, 0, [&] { return what; }, live_.size());
}

}  // namespace moetrace::trace
