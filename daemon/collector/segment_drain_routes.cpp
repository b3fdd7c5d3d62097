// The routes of a drain: each is checked, joined with its step and written; a hole is torn.
#include <algorithm>
#include <cstring>

#include "daemon/collector/segment_drain.hpp"
#include "shm/layer_mask.hpp"
#include "shm/route_layout.hpp"

namespace moetrace {

std::optional<Error> SegmentDrain::write_routes(std::uint64_t end) {
  for (; route_ < end; ++route_) {
    const auto step_low = routes_.upper_at(route_);
    // A hole stays open, below route_ and not below next_seq(), until write_holes().
    if (!step_low) continue;
    std::optional<Error> wrong;
    const Entered entered = enter_step(*step_low);
    if (entered == Entered::kLater) break;
    if (entered == Entered::kYes) {
      wrong = write_route(route_);
    } else {
      wrong = bad("a route of a step that was not announced");
    }
    // A dying producer may leave a half-written slot: a hole.
    if (wrong && !final_end_) return wrong;
  }
  return settle_holes();
}

std::optional<Error> SegmentDrain::write_route(std::uint64_t position) {
  const moetrace_ring_header& header = segment_.map().header();
  const std::byte* slot = routes_.memory().slot(position);
  moetrace_route_head head;
  std::memcpy(&head, slot, sizeof head);
  if (auto error = check_place(head)) return error;
  if (open_holes() > 0) {
    if (auto error = settle_holes()) return error;
  }
  if (!has_layer(filter_, head.layer)) {
    if (!totals_.filter_up_to(position + 1)) return bad("more records than a trace can have");
    return std::nullopt;
  }
  if (!totals_.deliver(position)) return bad("more records than a trace can have");
  std::uint16_t ids[MOETRACE_MAX_TOP_K];
  float weights[MOETRACE_MAX_TOP_K];
  const RouteLayout layout = segment_.map().route_layout();
  std::memcpy(ids, slot + layout.ids_offset(), header.top_k * sizeof *ids);
  std::memcpy(weights, slot + layout.weights_offset(), header.top_k * sizeof *weights);
  const SpanJoin::Place place = join_.place(head.row);
  const std::size_t begin = out_.size();
  text_.append(out_, *place.origin, place.token_idx, head.layer, ids, weights, position);
  mark(true, begin, position);
  return std::nullopt;
}

// Tears the open holes that announced rows explain. The others belong to a step whose line follows.
void SegmentDrain::write_holes() {
  const std::uint64_t count = std::min(open_holes(), totals_.open());
  if (count == 0) return;
  const std::size_t begin = out_.size();
  append_torn(out_, totals_.next_seq(), count);
  totals_.tear_slots(totals_.next_seq(), count);
  step_left_ = std::min(step_left_, totals_.open());
  mark(false, begin, std::nullopt);
}

std::optional<Error> SegmentDrain::settle_holes() {
  write_holes();
  while (open_holes() > 0 && !pending_.empty()) {
    write_next_event();
    write_holes();
  }
  if (open_holes() > 0) return bad("more reserved slots than announced rows");
  return std::nullopt;
}

// A hook fills the slots of a step layer by layer, and the slots of a layer row by row.
std::optional<Error> SegmentDrain::check_place(const moetrace_route_head& head) {
  const std::uint64_t place = std::uint64_t{head.layer} << 32 | head.row;
  if (step_left_ == 0) return bad("a route of a step that is over");
  if (place < next_place_) {
    return bad("a route of layer " + std::to_string(head.layer) + ", row " +
               std::to_string(head.row) + " after those that follow it");
  }
  if (head.row >= join_.step()->rows) return bad("a route of row " + std::to_string(head.row));
  if (head.layer != layer_) {
    if (!has_layer(allowed_layers_, head.layer))
      return bad("a route of layer " + std::to_string(head.layer) + ", which was not selected");
    if (layers_seen_ == join_.step()->layers)
      return bad("a route of one layer more than its step announced");
    ++layers_seen_;
    layer_ = head.layer;
  }
  next_place_ = place + 1;
  --step_left_;
  return std::nullopt;
}

// Writes the events up to and with the route's step.
SegmentDrain::Entered SegmentDrain::enter_step(std::uint32_t step_low) {
  // How many steps the route's step lies after `step`. The steps of one ring are less than 2^31
  // apart.
  const auto after = [&](const StepEvent& step) {
    return static_cast<std::int32_t>(step_low - static_cast<std::uint32_t>(step.step));
  };
  if (join_.step() && after(*join_.step()) == 0) return Entered::kYes;
  while (!pending_.empty()) {
    const auto* step = std::get_if<StepEvent>(&pending_.front().body);
    if (step != nullptr && after(*step) < 0) return Entered::kUnknown;
    if (events_left_ == 0) return Entered::kLater;
    const bool found = step != nullptr && after(*step) == 0;
    write_next_event();
    if (found) return Entered::kYes;
  }
  return more_events_ ? Entered::kLater : Entered::kUnknown;
}

}  // namespace moetrace
