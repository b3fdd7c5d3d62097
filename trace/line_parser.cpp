#include "trace/line_parser.hpp"

#include <array>

#include "trace/key_reader.hpp"

namespace moetrace::trace {
namespace {

constexpr auto kOptional = Presence::kOptional;

// One table a type: the keys in the order in which they are written, and where each goes.
bool read_content(KeyReader& reader, std::string_view type, Content& content,
                  std::optional<uint64_t>& at_seq) {
  const auto keys = [&](auto... list) {
    const std::array<Key, sizeof...(list) + 2> table{Key{"type", Seen{}}, list...,
                                                     Key{"at_seq", &at_seq, kOptional}};
    return reader.read_keys(table);
  };
  if (type == "route") {
    auto& to = content.emplace<Route>();
    const Presence public_key = reader.limits().plain ? kOptional : Presence::kRequired;
    return keys(Key{"req_id", &to.req_id, public_key}, Key{"token_idx", &to.token_idx, public_key},
                Key{"layer", Layer{&to.layer}}, Key{"topk_ids", IdList{&to.expert_ids}},
                Key{"topk_weights", WeightList{&to.weights}, public_key},
                Key{"request", &to.request, kOptional}, Key{"step", &to.step, kOptional},
                Key{"seq", &to.seq, kOptional}) &&
           reader.complete(to);
  }
  if (type == "step") {
    auto& to = content.emplace<Step>();
    return keys(Key{"step", &to.step}, Key{"rows", &to.rows}, Key{"layers", &to.layers},
                Key{"time_ns", &to.time_ns}, Key{"seq", &to.seq},
                Key{"dropped_total", &to.totals.dropped}, Key{"event", &to.event},
                Key{"attempted_total", &to.totals.attempted, kOptional},
                Key{"delivered_total", &to.totals.delivered, kOptional},
                Key{"filtered_total", &to.totals.filtered, kOptional},
                Key{"torn_total", &to.totals.torn, kOptional},
                Key{"event_lost_total", &to.totals.event_lost, kOptional});
  }
  if (type == "request") {
    auto& to = content.emplace<Request>();
    return keys(Key{"req_id", &to.req_id}, Key{"prompt_tokens", &to.prompt_tokens},
                Key{"cached_tokens", &to.cached_tokens}, Key{"request", &to.request},
                Key{"event", &to.event});
  }
  if (type == "request_end") {
    auto& to = content.emplace<RequestEnd>();
    return keys(Key{"req_id", &to.req_id}, Key{"generated_tokens", &to.generated_tokens},
                Key{"status", &to.status}, Key{"request", &to.request}, Key{"event", &to.event});
  }
  if (type == "loss") {
    auto& to = content.emplace<Loss>();
    return keys(Key{"dropped", &to.dropped}, Key{"dropped_total", &to.dropped_total},
                Key{"cause", &to.cause}, Key{"after_seq", &to.after_seq},
                Key{"event_lost_total", &to.event_lost_total, kOptional});
  }
  if (type == "torn") {
    auto& to = content.emplace<Torn>();
    return keys(Key{"first_seq", &to.first_seq}, Key{"count", &to.count});
  }
  if (type == "base" || type == "part") {
    auto& to = content.emplace<Base>();
    const bool is_part = type == "part";
    return keys(Key{"part", is_part ? Slot{&to.part.emplace()} : Slot{Seen{}},
                    is_part ? Presence::kRequired : kOptional},
                Key{"seq", &to.seq}, Key{"event", &to.event}, Key{"step", &to.step},
                Key{"open", &to.open}, Key{"dropped_total", &to.totals.dropped},
                Key{"attempted_total", &to.totals.attempted, kOptional},
                Key{"delivered_total", &to.totals.delivered, kOptional},
                Key{"filtered_total", &to.totals.filtered, kOptional},
                Key{"torn_total", &to.totals.torn, kOptional},
                Key{"event_lost_total", &to.totals.event_lost, kOptional});
  }
  if (type == "control") {
    auto& to = content.emplace<Control>();
    return keys(Key{"layers", LayerList{&to.layers}}, Key{"sample_every", &to.sample_every},
                Key{"from_step", &to.from_step}, Key{"enabled", &to.enabled, kOptional},
                Key{"event", &to.event, kOptional}, Key{"reason", &to.reason, kOptional});
  }
  if (type == "end") {
    auto& to = content.emplace<End>();
    Cost cost;
    bool has_cost = false;
    const std::array<Key, 2> cost_keys{Key{"announce_ns", &cost.announce_ns},
                                       Key{"hook_ns", &cost.hook_ns}};
    Ring ring;
    bool has_ring = false;
    const std::array<Key, 2> ring_keys{Key{"slots", &ring.slots},
                                       Key{"high_water", &ring.high_water}};
    if (!keys(Key{"attempted", &to.attempted}, Key{"delivered", &to.delivered},
              Key{"filtered", &to.filtered}, Key{"dropped", &to.dropped}, Key{"torn", &to.torn},
              Key{"status", &to.status},
              Key{"cost", Object{cost_keys.data(), cost_keys.size(), &has_cost}, kOptional},
              Key{"open", &to.open, kOptional},
              Key{"ring", Object{ring_keys.data(), ring_keys.size(), &has_ring}, kOptional}))
      return false;
    if (has_cost) to.cost = cost;
    if (has_ring) to.ring = ring;
    return true;
  }
  if (type == "rows") {
    auto& to = content.emplace<RowsWritten>();
    return keys(Key{"seq", &to.seq}, Key{"bytes", &to.bytes}, Key{"batches", &to.batches},
                Key{"delivered_total", &to.delivered_total},
                Key{"filtered_total", &to.filtered_total});
  }
  content.emplace<Unknown>().type = type;
  return keys();
}

}  // namespace

struct LineParser::Impl {
  explicit Impl(const Limits& limits) : reader(limits) {}

  KeyReader reader;
  std::optional<uint64_t> at_seq;
};

LineParser::LineParser(const Limits& limits) : impl_(std::make_unique<Impl>(limits)) {}
LineParser::LineParser(LineParser&&) noexcept = default;
LineParser::~LineParser() = default;

const Error& LineParser::error() const {
  return impl_->reader.error();
}

std::optional<uint64_t> LineParser::at_seq() const {
  return impl_->at_seq;
}

void LineParser::set_limits(const Limits& limits) {
  impl_->reader.set_limits(limits);
}

bool LineParser::parse(std::string_view text, Content& content) {
  std::string_view type;
  impl_->at_seq.reset();
  return impl_->reader.read_type(text, type) &&
         read_content(impl_->reader, type, content, impl_->at_seq);
}

}  // namespace moetrace::trace
