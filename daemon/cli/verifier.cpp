#include "daemon/cli/verifier.hpp"

#include <nlohmann/json.hpp>

#include "plotter/trace_reader.hpp"

namespace moetrace::cli {
namespace {

std::string text(std::uint64_t number) {
  return std::to_string(number);
}

std::string not_equal(const char* key, std::uint64_t found, std::uint64_t expected) {
  return "\"" + std::string(key) + "\" is " + text(found) + ", but the lines before it make " +
         text(expected);
}

std::string quoted(std::optional<std::string_view> id) {
  return id ? "\"" + std::string(*id) + "\"" : "null";
}

bool same(std::optional<std::string_view> a, const std::optional<std::string>& b) {
  return a.has_value() == b.has_value() && (!a || *a == *b);
}

}  // namespace

Verifier::Verifier(const trace::Meta& meta)
    : meta_(meta), num_layers_(meta.num_layers.value_or(trace::kMaxLayers)) {
  summary_.plain = meta.plain();
}

std::optional<Wrong> Verifier::check(const trace::Line& line) {
  line_ = line.number;
  text_ = line.text;
  std::string why;
  if (summary_.plain) {
    why = check_plain(line.content);
  } else if (ended_) {
    why = "stands after the end line";
  } else {
    why = std::visit([this](const auto& content) { return check(content); }, line.content);
  }
  if (why.empty()) return std::nullopt;
  return Wrong{wrong_line_ != 0 ? wrong_line_ : line_, std::move(why)};
}

std::optional<Wrong> Verifier::finish() const {
  if (summary_.plain || ended_) return std::nullopt;
  return Wrong{0, "no end line: still being written?"};
}

// A trace that lost its beginning must not pass for a log of another hook.
std::string Verifier::check_plain(const trace::Content& content) {
  const auto* row = std::get_if<trace::Route>(&content);
  const bool of_a_trace =
      row != nullptr ? row->seq.has_value() : !std::holds_alternative<trace::Unknown>(content);
  if (of_a_trace && meta_.text.empty()) {
    return "is a line of a trace, but the trace's beginning, with its meta line, is missing";
  }
  if (const auto* route = std::get_if<trace::Route>(&content)) {
    ++summary_.rows;
    summary_.layers.set(route->layer);
  }
  return {};
}

// Numbers of events rise; unknown kinds of events have no line, so they may leave gaps.
std::string Verifier::take_event(std::optional<std::uint64_t> event) {
  if (!event) {
    if (base_ && !last_event_) return {};
    return "\"event\" is null, which only a live request right behind a base line may have";
  }
  if (last_event_ && *event <= *last_event_) {
    return "event " + text(*event) + " does not rise, the one before was " + text(*last_event_);
  }
  if (base_ && *event < base_->event) {
    return "event " + text(*event) + " was before this file's base, " + text(base_->event);
  }
  last_event_ = event;
  return {};
}

// Every number below `seq` is over.
std::string Verifier::advance_to(std::uint64_t seq) {
  if (seq < next_seq_) {
    return "seq " + text(seq) + " does not rise, " + text(next_seq_) + " or more must come next";
  }
  if (seq > next_seq_ && first_gap_line_ == 0) {
    first_gap_line_ = line_;
    first_gap_seq_ = next_seq_;
  }
  gaps_ += seq - next_seq_;
  next_seq_ = seq;
  return {};
}

// `filtered` in this file must explain the gaps; the last ones of a file leave no later number to
// be seen by.
std::string Verifier::check_gaps(std::uint64_t filtered, bool exactly) {
  if (gaps_ > filtered) {
    if (first_gap_line_ != 0) wrong_line_ = first_gap_line_;
    return "routes are missing: seq " + text(first_gap_seq_) + " should come next, " +
           text(gaps_ - filtered) + " in all are neither here nor torn nor filtered";
  }
  if (exactly && gaps_ < filtered) {
    return not_equal("filtered_total",
                     base_.value_or(trace::Base{}).totals.filtered.value_or(0) + filtered,
                     base_.value_or(trace::Base{}).totals.filtered.value_or(0) + gaps_);
  }
  first_gap_line_ = 0;
  return {};
}

std::string Verifier::check(const trace::Base& base) {
  if (line_ != 2) return "a base line must be the second line";
  base_ = base;
  next_seq_ = base.seq;
  open_left_ = base.open;
  last_step_.reset();
  const trace::Totals& totals = base.totals;
  if (totals.attempted && totals.delivered && totals.filtered && totals.torn) {
    const std::uint64_t over = *totals.delivered + *totals.filtered + totals.dropped.value_or(0) +
                               *totals.torn + base.open;
    if (over != *totals.attempted) return not_equal("attempted_total", *totals.attempted, over);
  }
  return {};
}

std::string Verifier::check(const trace::Request& request) {
  const std::optional<std::uint64_t> event = request.event;
  if (std::string why = take_event(event); !why.empty()) return why;
  if (live_.contains(request.request) ||
      (event && last_request_ && request.request <= *last_request_)) {
    return "request " + text(request.request) + " was there already";
  }
  live_.emplace(request.request,
                request.req_id ? std::optional<std::string>(*request.req_id) : std::nullopt);
  if (!last_request_ || request.request > *last_request_) last_request_ = request.request;
  ++summary_.requests;
  return {};
}

std::string Verifier::check(const trace::RequestEnd& end) {
  if (std::string why = take_event(end.event); !why.empty()) return why;
  const auto found = live_.find(end.request);
  if (found == live_.end()) {
    // A collector that came late may have found no name for it.
    if (base_ && !end.req_id) return {};
    return "request " + text(end.request) + " ends without being live";
  }
  if (!same(end.req_id, found->second)) {
    return "request " + text(end.request) +
           " has another req_id than when it began: " + quoted(end.req_id) + ", not " +
           quoted(found->second);
  }
  live_.erase(found);
  return {};
}

std::string Verifier::check(const trace::Step& step) {
  if (std::string why = take_event(step.event); !why.empty()) return why;
  if (last_step_ && step.step <= *last_step_) {
    return "step " + text(step.step) + " does not rise, the one before was " + text(*last_step_);
  }
  last_step_ = step.step;
  if (step.layers > num_layers_) {
    return "records " + text(step.layers) + " layers, the model has " + text(num_layers_);
  }
  if (step.rows > UINT32_MAX) return "\"rows\" is " + text(step.rows) + ", no pass has so many";
  if (std::string why = advance_to(step.seq); !why.empty()) return why;
  announced_rows_ += step.rows * step.layers;
  ++summary_.steps;
  if (step.layers > 0) announced_.push_back({step.step, step.rows, step.layers});
  return check_totals(step);
}

std::string Verifier::check_totals(const trace::Step& step) {
  const trace::Totals before = base_ ? base_->totals : trace::Totals{};
  const trace::Totals& now = step.totals;
  if (now.filtered) {
    const std::uint64_t earlier = before.filtered.value_or(0);
    if (*now.filtered < earlier) return not_equal("filtered_total", *now.filtered, earlier + gaps_);
    if (std::string why = check_gaps(*now.filtered - earlier, true); !why.empty()) return why;
  }
  const auto compare = [](const char* key, std::optional<std::uint64_t> found,
                          std::optional<std::uint64_t> earlier, std::uint64_t here) {
    const std::uint64_t expected = earlier.value_or(0) + here;
    return found && *found != expected ? not_equal(key, *found, expected) : std::string();
  };
  std::string why =
      compare("attempted_total", now.attempted, before.attempted, announced_rows_ + event_lost_);
  if (why.empty()) why = compare("delivered_total", now.delivered, before.delivered, summary_.rows);
  if (why.empty()) why = compare("dropped_total", now.dropped, before.dropped, summary_.dropped);
  if (why.empty()) why = compare("torn_total", now.torn, before.torn, summary_.torn);
  return why;
}

std::string Verifier::check(const trace::Route& route) {
  if (!route.step || !route.seq) return "a route line needs \"step\" and \"seq\"";
  if (std::string why = advance_to(*route.seq); !why.empty()) return why;
  ++next_seq_;
  if (std::string why = check_request(route); !why.empty()) return why;
  if (std::string why = check_step(route); !why.empty()) return why;
  ++summary_.rows;
  summary_.layers.set(route.layer);
  return {};
}

std::string Verifier::check_request(const trace::Route& route) const {
  if (!route.request) {
    if (!route.req_id) return {};
    return "has a req_id without a \"request\"";
  }
  const auto found = live_.find(*route.request);
  if (found == live_.end()) {
    return "belongs to request " + text(*route.request) + ", which is not live here";
  }
  if (!same(route.req_id, found->second)) {
    return "req_id is " + quoted(route.req_id) + ", but request " + text(*route.request) + " is " +
           quoted(found->second);
  }
  return {};
}

// Rows of a step come after its line and before those of any later step.
std::string Verifier::check_step(const trace::Route& route) {
  const std::uint64_t step = *route.step;
  if (!route_step_ || step != *route_step_) {
    if (route_step_ && step < *route_step_) {
      return "a row of step " + text(step) + " after one of step " + text(*route_step_);
    }
    while (!announced_.empty() && announced_.front().step < step) announced_.pop_front();
    if (!announced_.empty() && announced_.front().step == step) {
      step_rows_.begin(announced_.front().rows, announced_.front().layers);
    }
    route_step_ = step;
  }
  if (!announced_.empty() && announced_.front().step == step) {
    return step_rows_.add(route.layer, route.request, route.token_idx);
  }
  // Announced to an earlier file: only their number is known.
  if (base_ && base_->step && step == *base_->step && open_left_ > 0) {
    --open_left_;
    return {};
  }
  return "is a row of step " + text(step) + ", which no step line announced";
}

std::string Verifier::check(const trace::Loss& loss) {
  if (loss.dropped == 0) return "\"dropped\" is 0, so nothing was lost";
  if (loss.cause == "event_ring_full") {
    event_lost_ += loss.dropped;
  } else if (loss.cause != "ring_full") {
    return "\"cause\" is neither ring_full nor event_ring_full";
  }
  if (loss.after_seq) {
    if (std::string why = advance_to(*loss.after_seq + 1); !why.empty()) return why;
  }
  summary_.dropped += loss.dropped;
  const std::uint64_t expected = (base_ ? base_->totals.dropped.value_or(0) : 0) + summary_.dropped;
  return loss.dropped_total == expected ? std::string()
                                        : not_equal("dropped_total", loss.dropped_total, expected);
}

std::string Verifier::check(const trace::Torn& torn) {
  if (torn.count == 0) return "\"count\" is 0, so nothing is torn";
  if (torn.first_seq) {
    if (std::string why = advance_to(*torn.first_seq); !why.empty()) return why;
    next_seq_ += torn.count;
  }
  summary_.torn += torn.count;
  return {};
}

std::string Verifier::check(const trace::Control& control) {
  // The reader leaves the event's number to us.
  const auto line = nlohmann::json::parse(text_, nullptr, /*allow_exceptions=*/false);
  const auto event = line.find("event");
  if (event != line.end()) {
    if (!event->is_number_unsigned()) return "\"event\" must be a whole number";
    if (std::string why = take_event(event->get<std::uint64_t>()); !why.empty()) return why;
  }
  if (last_step_ && control.from_step <= *last_step_) {
    return "\"from_step\" is " + text(control.from_step) + ", but step " + text(*last_step_) +
           " has begun already";
  }
  return {};
}

std::string Verifier::check(const trace::End& end) {
  if (std::string why = check_gaps(end.filtered, false); !why.empty()) return why;
  const std::uint64_t attempted = (base_ ? base_->open : 0) + announced_rows_ + event_lost_;
  if (end.attempted != attempted) return not_equal("attempted", end.attempted, attempted);
  if (end.delivered != summary_.rows) return not_equal("delivered", end.delivered, summary_.rows);
  if (end.dropped != summary_.dropped) return not_equal("dropped", end.dropped, summary_.dropped);
  if (end.torn != summary_.torn) return not_equal("torn", end.torn, summary_.torn);
  const std::uint64_t over = end.delivered + end.filtered + end.dropped + end.torn;
  if (over != end.attempted) {
    return "attempted is " + text(end.attempted) +
           ", but delivered + filtered + dropped + torn is " + text(over);
  }
  if (std::string why = check_cost(); !why.empty()) return why;
  summary_.attempted = end.attempted;
  summary_.filtered = end.filtered;
  summary_.status = end.status;
  ended_ = true;
  return {};
}

// What tracing cost the engine: not in older files, null where its library did not say it.
std::string Verifier::check_cost() {
  const auto line = nlohmann::json::parse(text_, nullptr, /*allow_exceptions=*/false);
  if (!line.contains("cost")) return {};
  const auto& cost = line["cost"];
  double sum = 0;
  bool known = true;
  for (const char* key : {"announce_ns", "hook_ns"}) {
    if (!cost.is_object() || !cost.contains(key) ||
        !(cost[key].is_null() || cost[key].is_number_unsigned())) {
      return std::string("\"cost\" must have \"") + key + "\", a whole number or null";
    }
    known = known && !cost[key].is_null();
    if (known) sum += cost[key].get<double>();
  }
  if (known) summary_.cost_ns = sum;
  return {};
}

boost::system::result<TraceSummary, Failure> verify_trace(const std::string& path) {
  const auto unreadable = [](const trace::Error& error) {
    return Failure{kFailed, error.message + "; " + trace::what_to_try(error)};
  };
  auto reader = trace::TraceReader::open(path);
  if (!reader) return unreadable(reader.error());
  Verifier verifier(reader->meta());
  std::optional<Wrong> wrong;
  while (!wrong) {
    const auto line = reader->next();
    if (!line) return unreadable(line.error());
    if (*line == nullptr) {
      wrong = verifier.finish();
      break;
    }
    wrong = verifier.check(**line);
  }
  if (!wrong) {
    TraceSummary summary = verifier.summary();
    summary.left_out = reader->left_out();
    return summary;
  }
  if (wrong->line == 0) {
    const char* const rest =
        reader->left_out().empty() ? "" : "the last line is unfinished, and there is ";
    return Failure{kFailed, trace::shown_name(path) + ": " + rest + wrong->why +
                                " run moetraced until the trace has ended"};
  }
  return Failure{kFailed, trace::shown_name(path) + ": line " + text(wrong->line) + ": " +
                              wrong->why + "; the file was changed, or its writer is broken"};
}

}  // namespace moetrace::cli
