#include "producer/announcer.hpp"

#include "producer/clock.hpp"
#include "shm/layer_mask.hpp"

namespace moetrace {

// What `meta` says, and what the control words said at creation; they may have been changed since.
Announcer::Announcer(const SegmentMap& map, EventWriter& events, RequestTable& requests)
    : map_(map),
      events_(events),
      requests_(requests),
      control_{true, map.header().sample_every, map.header().layers_logged} {}

StepBlock Announcer::announce(std::uint32_t rows, const Spans& spans) {
  const std::int64_t time_ns = now_ns();
  follow_control();
  if (!control_.enabled) {
    if (requests_.flush()) write_control_event();
    return {};
  }
  const bool record = control_.sample_every != 0 && steps_ % control_.sample_every == 0;
  return write_step(time_ns, rows, spans, intersect(control_.layers, map_.header().moe_layers),
                    record);
}

StepBlock Announcer::announce_layers(std::uint32_t rows, const Spans& spans,
                                     const moetrace_layer_mask& layers) {
  // A log may have layers that its first line does not name, where they were changed meanwhile.
  if (count_layers(without(layers, control_.layers)) > 0) {
    control_.layers = unite(control_.layers, layers);
    control_unannounced_ = true;
  }
  return write_step(now_ns(), rows, spans, layers, true);
}

std::int64_t Announcer::now_ns() const {
  return monotonic_ns() - map_.header().created_monotonic_ns;
}

// Once per announcement. Whoever is writing them, or died writing, leaves us with what we had.
void Announcer::follow_control() {
  const auto words = read_control(map_);
  if (!words || words->first == control_version_) return;
  control_version_ = words->first;
  if (words->second == control_) return;  // only a change gets an event
  control_ = words->second;
  control_unannounced_ = true;
}

bool Announcer::write_control_event() {
  if (!control_unannounced_) return true;
  if (!events_.fits(1)) return false;
  moetrace_control_event event{};
  event.from_step = steps_;
  event.enabled = control_.enabled ? 1 : 0;
  event.sample_every = control_.sample_every;
  event.layers = intersect(control_.layers, map_.header().moe_layers);
  const std::uint64_t position = events_.claim(1);
  events_.write(position, event);
  events_.commit(position, 1, MOETRACE_EVENT_CONTROL, MOETRACE_EVENT_CONTROL);
  control_unannounced_ = false;
  return true;
}

StepBlock Announcer::write_step(std::int64_t time_ns, std::uint32_t rows, const Spans& spans,
                                const moetrace_layer_mask& layers, bool record) {
  StepBlock block{steps_, rows, record, layers, time_ns, count_layers(layers)};
  const std::uint32_t recorded_layers = record ? block.selected : 0;
  const std::uint64_t records = std::uint64_t{rows} * recorded_layers;
  attempted_ += records;

  const std::uint64_t slots = slots_for(spans.size());
  // All or nothing: requests and a change of control that the step relies on, then the step itself.
  if (requests_.flush() && write_control_event() && events_.fits(slots)) {
    const std::uint64_t first = events_.claim(slots);
    moetrace_step_event head{};
    head.step = block.step;
    head.time_ns = block.time_ns;
    head.rows = rows;
    head.spans = static_cast<std::uint32_t>(spans.size());
    head.layers = recorded_layers;
    events_.write(first, head);
    for (std::size_t n = 0; n < spans.size(); n += 2) {
      moetrace_span_event pair{};
      pair.span[0] = spans[n];
      if (n + 1 < spans.size()) pair.span[1] = spans[n + 1];
      events_.write(first + 1 + n / 2, pair);
    }
    events_.commit(first, static_cast<std::uint16_t>(slots), MOETRACE_EVENT_STEP,
                   MOETRACE_EVENT_SPAN);
  } else {
    event_lost_ += records;
    block.record = false;
  }
  ++steps_;
  store_counters();
  return block;
}

void Announcer::store_counters() {
  moetrace_host_counters* host = &map_.state()->host;
  // relaxed: each is a running total of its own; what a trace says is derived from its step lines.
  SharedWord(&host->attempted).store(attempted_, std::memory_order_relaxed);
  SharedWord(&host->steps).store(steps_, std::memory_order_relaxed);
  SharedWord(&host->events_claimed).store(events_.position(), std::memory_order_relaxed);
  // release: whoever sees this loss (acquire, in the collector) also sees every event that was
  // written before it, so the line about it never stands before theirs.
  SharedWord(&host->event_lost).store(event_lost_, std::memory_order_release);
}

void Announcer::close() {
  requests_.flush();
  store_counters();
  // release: everything that was ever written is visible to whoever sees it closed.
  SharedWord(&map_.state()->host.closed).store(1, std::memory_order_release);
}

}  // namespace moetrace
