#include "daemon/collector/ring_watch.hpp"

#include <algorithm>
#include <bit>
#include <charconv>

#include "common/text.hpp"
#include "shm/control_words.hpp"
#include "shm/layer_mask.hpp"

namespace moetrace {
namespace {

// "64", "0.5"
std::string mib(std::uint64_t bytes) {
  char text[32];
  const double number = static_cast<double>(bytes) / (1024 * 1024);
  return {text, std::to_chars(text, text + sizeof text, number).ptr};
}

// The ring that what was waiting and what was dropped would have filled to a half.
std::uint64_t large_enough(const RingUse& use, std::uint64_t dropped) {
  const std::uint64_t most = MOETRACE_MAX_ROUTE_SLOTS / 2;
  return std::bit_ceil(2 * std::min(use.high_water + std::min(dropped, most), most));
}

std::uint32_t recorded_layers(const SegmentMap& map) {
  const auto control = read_control(map);
  return count_layers(control ? control->words.layers : map.header().layers_logged);
}

}  // namespace

RingWatch::RingWatch(const SegmentMap& map)
    : use_{map.header().route_slots, read_high_water(map).value_or(0)},
      said_(is_three_quarters()) {}

// A snapshot is as old as the last step, and one step may fill the ring. A CPU's hook commits slot
// after slot, so the commit words show how far it is. To count them all in each pass would take too
// long: look whether there are more than known, and count only those above the high-water mark.
RingWatch::Fill RingWatch::fill_of(const SegmentMap& map, const RingReader<MappedRing>& routes,
                                   std::uint64_t claimed) const {
  const std::uint64_t begin = routes.published();
  const std::uint64_t known = claimed > begin ? claimed - begin : 0;
  const auto holds = [&](std::uint64_t count) {
    return count <= use_.slots && routes.upper_at(begin + count - 1).has_value();
  };
  if (map.header().claimer == MOETRACE_CLAIMER_GPU || !holds(known + 1)) return {known, true};
  std::uint64_t low = std::max(known, use_.high_water) + 1;
  if (!holds(low)) return {known, false};
  std::uint64_t high = use_.slots;
  while (low < high) {
    const std::uint64_t middle = low + (high - low + 1) / 2;
    if (holds(middle)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return {low, true};
}

void RingWatch::look(const SegmentMap& map, const RingReader<MappedRing>& routes,
                     std::uint64_t claimed, std::uint64_t dropped) {
  const Fill fill = fill_of(map, routes, claimed);
  dropped_ = dropped;
  const std::uint64_t most = dropped > 0 ? use_.slots : fill.slots;
  const Moment now{said_ ? Clock::time_point() : Clock::now(),
                   routes.published() + fill.slots + dropped, routes.published()};
  if (!high_ && fill.exact && fill.slots <= use_.slots / 4) low_ = now;
  if (most <= use_.high_water) return;
  use_.high_water = most;
  write_high_water(map, most);
  if (is_three_quarters() && !said_ && !high_) high_ = now;
}

std::string RingWatch::take_warning(const SegmentMap& map, const std::string& trace_id,
                                    bool rows_are_lines) {
  if (said_ || !is_three_quarters()) return {};
  said_ = true;
  const std::uint32_t stride = map.header().route_stride;
  std::string text =
      "trace " + trace_id + ": its ring of " + mib(use_.slots * stride) + " MiB was " +
      percent(static_cast<double>(use_.high_water) / static_cast<double>(use_.slots)) + " full" +
      (dropped_ > 0 ? ", with " + counted(dropped_, "row") + " dropped"
                    : "; when it is full, rows are dropped");
  const std::string larger =
      "MOETRACE_RING_MB=" + mib(large_enough(use_, dropped_) * stride) + " for the engine";
  if (!low_ || !high_)
    return text + ". It was so when this collector began: start moetraced first, or try " + larger;
  const std::uint64_t came = high_->came - low_->came;
  const std::uint64_t written = high_->written - low_->written;
  const std::chrono::duration<double> time = high_->time - low_->time;
  text += ". In " + decimals(time.count(), 3) + " s " + counted(came, "row") + " came and " +
          grouped(written) + (written == 1 ? " was" : " were") + " written. Try " + larger;
  if (written == 0) return text;
  if (rows_are_lines) text += ", or --rows arrow for moetraced";
  const std::uint32_t layers = recorded_layers(map);
  const auto kept_up = static_cast<std::uint32_t>(
      static_cast<double>(layers) *
      std::min(1.0, static_cast<double>(written) / static_cast<double>(came)));
  if (kept_up > 0 && kept_up < layers)
    text += ", or " + std::to_string(kept_up) + " of the " + std::to_string(layers) +
            " layers (moetrace set --layers)";
  return text;
}

}  // namespace moetrace
