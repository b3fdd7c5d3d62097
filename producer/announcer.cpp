#include "producer/announcer.hpp"

#include "producer/clock.hpp"
#include "shm/layer_mask.hpp"

namespace moetrace {

// Starts from the header's selection, which the trace's `meta` line shows. The control words may
// have changed since the segment was created; the first announcement then notices.
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
  // The selection may have changed during the replayed trace, so a step may have layers that its
  // `meta` line does not name.
  if (count_layers(without(layers, control_.layers)) > 0) {
    control_.layers = unite(control_.layers, layers);
    control_unannounced_ = true;
  }
  return write_step(now_ns(), rows, spans, layers, true);
}

std::int64_t Announcer::now_ns() const {
  return monotonic_ns() - map_.header().created_monotonic_ns;
}

// Keeps the old words while a writer is at work, or has died while writing.
void Announcer::follow_control() {
  const auto words = read_control(map_);
  if (!words || words->version == control_version_) return;
  control_version_ = words->version;
  // Only a change gets an event.
  if (words->words == control_) return;
  control_ = words->words;
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
  // All or nothing: first the requests and the control change that the step relies on, then the
  // step.
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
  // relaxed: each is an independent running total, and the trace's own totals come from its step
  // events.
  SharedWord(&host->attempted).store(attempted_, std::memory_order_relaxed);
  SharedWord(&host->steps).store(steps_, std::memory_order_relaxed);
  SharedWord(&host->events_claimed).store(events_.position(), std::memory_order_relaxed);
  // release: pairs with the collector's acquire load. A collector that sees this loss also sees
  // every earlier event, so it writes the loss line after the lines of those events.
  SharedWord(&host->event_lost).store(event_lost_, std::memory_order_release);
}

void Announcer::close() {
  requests_.flush();
  store_counters();
  // release: pairs with the collector's acquire load. A collector that sees `closed` sees
  // everything that was ever written.
  SharedWord(&map_.state()->host.closed).store(1, std::memory_order_release);
}

}  // namespace moetrace
