#include "daemon/cli/counts_view.hpp"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <optional>
#include <thread>

#include "shm/counts_words.hpp"
#include "shm/layer_mask.hpp"

namespace moetrace::cli {
namespace {

// The producer writes the mirror at most every 10 ms, in far less than 1 ms, so a few tries
// suffice. If the writer lost its processor in the middle, try again until kPatience is over.
constexpr int kLooks = 64;
constexpr std::chrono::milliseconds kPatience{50};
constexpr std::chrono::milliseconds kBetweenTries{1};

}  // namespace

LayerCounts view_layer(std::uint32_t layer, std::vector<std::uint64_t> counts) {
  LayerCounts load;
  load.layer = layer;
  load.selections = std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
  std::vector<std::uint32_t> order(counts.size());
  std::iota(order.begin(), order.end(), 0u);
  const std::size_t shown = std::min(order.size(), load.busiest.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(shown), order.end(),
                    [&](std::uint32_t a, std::uint32_t b) {
                      return counts[a] != counts[b] ? counts[a] > counts[b] : a < b;
                    });
  std::copy_n(order.begin(), shown, load.busiest.begin());
  if (load.selections > 0) {
    const double mean = static_cast<double>(load.selections) / static_cast<double>(counts.size());
    load.imbalance = static_cast<double>(counts[load.busiest[0]]) / mean;
  }
  load.counts = std::move(counts);
  return load;
}

std::optional<CountsView> read_counts(const CollectorSegment& segment) {
  if (!segment.intact()) return std::nullopt;
  const moetrace_ring_header& header = segment.map().header();
  auto counts = read_counts(segment.map(), kLooks);
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (!counts) {
    if (std::chrono::steady_clock::now() >= end) return std::nullopt;
    std::this_thread::sleep_for(kBetweenTries);
    counts = read_counts(segment.map(), kLooks);
  }
  CountsView load;
  load.steps_done = counts->steps_done;
  for (std::uint32_t layer = 0; layer < header.num_layers; ++layer) {
    if (!has_layer(header.moe_layers, layer)) continue;
    const auto of_layer = counts->layer(header, layer).first(segment.map().layers().ids_of(layer));
    load.layers.push_back(view_layer(layer, {of_layer.begin(), of_layer.end()}));
  }
  return load;
}

std::string counts_bar(const std::vector<std::uint64_t>& counts, std::size_t width) {
  static constexpr std::array<const char*, 9> kHeights = {" ", "▁", "▂", "▃", "▄",
                                                          "▅", "▆", "▇", "█"};
  const std::size_t cells = std::min(width, counts.size());
  std::vector<double> heights(cells, 0);
  for (std::size_t cell = 0; cell < cells; ++cell) {
    const std::size_t first = cell * counts.size() / cells;
    const std::size_t last = (cell + 1) * counts.size() / cells;
    // The mean, so that cells of different widths compare.
    for (std::size_t n = first; n < last; ++n) heights[cell] += static_cast<double>(counts[n]);
    heights[cell] /= static_cast<double>(last - first);
  }
  const double most = cells == 0 ? 0 : *std::max_element(heights.begin(), heights.end());
  std::string bar;
  for (const double height : heights) {
    // A count above 0 is always visible.
    const auto step = most == 0 || height == 0
                          ? 0
                          : std::max<std::size_t>(1, static_cast<std::size_t>(height / most * 8));
    bar += kHeights[step];
  }
  return bar;
}

}  // namespace moetrace::cli
