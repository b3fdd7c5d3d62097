// The routes of a drain: each is checked, joined with its step and written; a hole is torn.
#include <algorithm>
#include <cstring>
#include <limits>

#include "daemon/collector/segment_drain.hpp"
#include "shm/layer_mask.hpp"
#include "shm/route_layout.hpp"

namespace moetrace {
namespace {

// Whether records of the layer have places that only layers with a larger top-k use.
bool has_unused_places(const SegmentMap& map, std::uint32_t layer) {
  return layer < map.layers().num_layers() && map.layers().top_k_of(layer) < map.layers().top_k();
}

// Whether a record has an id in such a place.
bool has_id_past_top_k(const SegmentMap& map, std::uint32_t layer, const std::byte* slot) {
  if (!has_unused_places(map, layer)) return false;
  const std::byte* const ids = slot + map.route_layout().ids_offset();
  for (std::uint32_t place = map.layers().top_k_of(layer); place < map.layers().top_k(); ++place) {
    std::uint16_t id;
    std::memcpy(&id, ids + place * sizeof id, sizeof id);
    if (id != MOETRACE_NO_EXPERT) return true;
  }
  return false;
}

}  // namespace

std::optional<Error> SegmentDrain::write_routes(std::uint64_t end) {
  while (route_ < end) {
    const auto step_low = routes_.upper_at(route_);
    // A hole stays open, below route_ and not below next_seq(), until write_holes().
    if (!step_low) {
      ++route_;
      continue;
    }
    const Entered entered = enter_step(*step_low);
    if (entered == Entered::kLater) break;
    const Result<std::uint64_t> written = entered == Entered::kYes
                                              ? write_routes_from(route_, end)
                                              : bad("a route of a step that was not announced");
    if (written && *written == 0) {
      outgrown_ = true;
      break;
    }
    // A dying producer may leave a half-written slot: a hole.
    if (!written && !final_end_) return written.error();
    route_ += written ? *written : 1;
  }
  return settle_holes();
}

Result<std::uint64_t> SegmentDrain::write_routes_from(std::uint64_t position, std::uint64_t end) {
  moetrace_route_head head;
  std::memcpy(&head, routes_.memory().slot(position), sizeof head);
  if (has_id_past_top_k(segment_.map(), head.layer, routes_.memory().slot(position)))
    return bad("a route of layer " + std::to_string(head.layer) + " with an id past its top-k");
  if (auto error = check_place(head)) return *error;
  if (open_holes() > 0) {
    if (auto error = settle_holes()) return *error;
  }
  const std::uint64_t count = run_length(
      position, head, std::min<std::uint64_t>(end - position, join_.step()->rows - head.row));
  const bool wanted = has_layer(settings_.layers, head.layer);
  if (wanted && rows_ && !add_rows(*rows_, position, count, head)) {
    // The row is checked again, as the first one of the next part.
    next_place_ = std::uint64_t{head.layer} << 32 | head.row;
    ++step_left_;
    return 0;
  }
  next_place_ += count - 1;
  step_left_ -= count - 1;
  const bool counted =
      wanted ? totals_.deliver_run(position, count) : totals_.filter_up_to(position + count);
  if (!counted) return bad("more records than a trace can have");
  if (!wanted) return count;
  if (live_.wanted()) add_live_rows(position, count, head);
  if (!rows_ || (settings_.route_lines_wanted && settings_.route_lines_wanted()))
    add_routes(position, count, head);
  return count;
}

// How many records from `position` on are the next rows of the same step and layer; at least 1, at
// most `most`.
std::uint64_t SegmentDrain::run_length(std::uint64_t position, const moetrace_route_head& head,
                                       std::uint64_t most) const {
  most = std::min(most, step_left_ + 1);
  const bool look_past_top_k = has_unused_places(segment_.map(), head.layer);
  std::uint64_t count = 1;
  for (; count < most; ++count) {
    const auto step = routes_.upper_at(position + count);
    if (step != head.step) break;
    const std::byte* slot = routes_.memory().slot(position + count);
    moetrace_route_head next;
    std::memcpy(&next, slot, sizeof next);
    if (next.layer != head.layer || next.row != head.row + count) break;
    if (look_past_top_k && has_id_past_top_k(segment_.map(), next.layer, slot)) break;
  }
  return count;
}

namespace {

// Whole units are copied: what lies past top_k is overwritten by the next row.
template <std::uint32_t units>
void copy_records(const MappedRing& ring, std::uint64_t position, std::uint64_t count,
                  std::uint32_t top_k, RowBatch::Room room) {
  constexpr RouteLayout kLayout = RouteLayout::of_units(units);
  for (std::uint64_t n = 0; n < count; ++n) {
    const std::byte* slot = ring.slot(position + n);
    std::memcpy(room.ids, slot + kLayout.ids_offset(), kLayout.ids_bytes());
    std::memcpy(room.weights, slot + kLayout.weights_offset(), kLayout.weights_bytes());
    room.ids += top_k;
    room.weights += top_k;
  }
}

// Of a layer with fewer experts or a smaller top-k than others: what it can't have becomes null.
void null_what_layer_lacks(const LayerTable& layers, std::uint32_t layer, std::uint64_t count,
                           RowBatch::Room room) {
  const std::uint32_t top_k = layers.top_k_of(layer);
  const std::uint32_t ids = layers.ids_of(layer);
  if (top_k == layers.top_k() && ids == layers.num_experts()) return;
  for (; count > 0; --count) {
    for (std::uint32_t place = 0; place < layers.top_k(); ++place) {
      if (place >= top_k) room.weights[place] = std::numeric_limits<float>::quiet_NaN();
      if (place >= top_k || room.ids[place] >= ids) room.ids[place] = MOETRACE_NO_EXPERT;
    }
    room.ids += layers.top_k();
    room.weights += layers.top_k();
  }
}

}  // namespace

// False: the columns are too narrow.
bool SegmentDrain::add_rows(RowBatch& to, std::uint64_t position, std::uint64_t count,
                            const moetrace_route_head& head) {
  const StepEvent& step = *join_.step();
  if (!to.in_step(step.step)) {
    const RowBatch::Places places = to.begin_step(step.step, step.rows);
    join_.places(places.requests, places.token_idx);
    if (!to.step_fits()) return false;
  }
  const std::uint32_t top_k = to.form().top_k;
  const RowBatch::Room room =
      to.add(head.row, static_cast<std::uint32_t>(count), head.layer, position);
  switch (segment_.map().route_layout().units()) {
    case 1:
      copy_records<1>(routes_.memory(), position, count, top_k, room);
      break;
    case 2:
      copy_records<2>(routes_.memory(), position, count, top_k, room);
      break;
    case 3:
      copy_records<3>(routes_.memory(), position, count, top_k, room);
      break;
    default:
      copy_records<4>(routes_.memory(), position, count, top_k, room);
  }
  null_what_layer_lacks(segment_.map().layers(), head.layer, count, room);
  return true;
}

void SegmentDrain::add_live_rows(std::uint64_t position, std::uint64_t count,
                                 const moetrace_route_head& head) {
  add_rows(live_.batch(), position, count, head);
  for (std::uint64_t n = 0; n < count;) {
    const SpanJoin::Place place = join_.place(static_cast<std::uint32_t>(head.row + n));
    n += place.rows;
    if (place.origin->request) live_.name(*place.origin->request, place.origin->json_id());
  }
}

void SegmentDrain::add_routes(std::uint64_t position, std::uint64_t count,
                              const moetrace_route_head& head) {
  const std::size_t begin = rows_ ? live_routes_.size() : block_->entries();
  for (std::uint64_t n = 0; n < count;) {
    const SpanJoin::Place place = join_.place(static_cast<std::uint32_t>(head.row + n));
    RouteRows rows{position + n, place.token_idx, place.origin, place.rows, head.layer};
    rows.count = static_cast<std::uint32_t>(std::min<std::uint64_t>(rows.count, count - n));
    n += rows.count;
    if (rows_) {
      append_routes(live_routes_, text_, segment_.map(), routes_.memory(), rows, step_text_);
    } else {
      block_->add_rows(join_.step()->step, rows);
    }
  }
  mark_routes(begin, position, count);
}

// Tears the open holes that announced rows explain. The others belong to a step whose line follows.
void SegmentDrain::write_holes() {
  const std::uint64_t count = std::min(open_holes(), totals_.open());
  if (count == 0) return;
  const std::size_t begin = out_.size();
  append_torn(out_, totals_.next_seq(), count);
  totals_.tear_slots(totals_.next_seq(), count);
  step_left_ = std::min(step_left_, totals_.open());
  mark(begin);
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
