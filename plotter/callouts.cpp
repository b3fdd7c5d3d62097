#include "plotter/callouts.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace moetrace::plot {
namespace {

// Between a label and the bar or label below it, or a bar beside it.
constexpr double kGap = 5;
// Between labels side by side, in widths of a label.
constexpr double kAsideRoom = 0.25;
// Step of the sideways search.
constexpr double kSideStep = 4;
// A label this close to its bar needs no leader.
constexpr double kNearEnough = 9;
// Between the bars and a row of labels, for their leaders.
constexpr double kLeaderRoom = 22;

// Costs in points of distance.
constexpr double kAside = 1.2;
constexpr double kThroughBar = 25;
constexpr double kThroughLabel = 400;

// The top of the highest bar within [x, x + width].
double bars_top(const std::vector<Box>& bars, double x, double width) {
  double top = std::numeric_limits<double>::max();
  for (const Box& bar : bars) {
    if (bar.right() > x && bar.x < x + width) top = std::min(top, bar.y);
  }
  return top;
}

Box grown(const Box& box, double aside, double up) {
  return {box.x - aside, box.y - up, box.width + 2 * aside, box.height + 2 * up};
}

// The box with half of the space that must stay free between two labels. Labels side by side need
// more space than labels on top of each other, because close together they read as one line.
Box with_room(const Box& box) {
  return grown(box, box.width * kAsideRoom / 2, kGap / 2);
}

// Whether the leader runs through the inside of the box: its part between the box's sides lies
// neither above nor below the box.
bool crosses(const Callout& line, const Box& box) {
  if (line.from_x == line.to_x) {
    return line.from_x > box.x && line.from_x < box.right() && line.to_y < box.bottom() &&
           line.from_y > box.y;
  }
  const double left = std::max(std::min(line.from_x, line.to_x), box.x);
  const double right = std::min(std::max(line.from_x, line.to_x), box.right());
  if (left >= right) return false;
  const double slope = (line.to_y - line.from_y) / (line.to_x - line.from_x);
  const double y1 = line.from_y + (left - line.from_x) * slope;
  const double y2 = line.from_y + (right - line.from_x) * slope;
  return std::max(y1, y2) > box.y && std::min(y1, y2) < box.bottom();
}

// Whether two leaders meet. The eye could then follow the wrong one.
bool meet(const Callout& a, const Callout& b) {
  // The sign says on which side of the leader the point lies.
  const auto side = [](const Callout& line, double x, double y) {
    return (line.to_x - line.from_x) * (y - line.from_y) -
           (line.to_y - line.from_y) * (x - line.from_x);
  };
  return side(a, b.from_x, b.from_y) * side(a, b.to_x, b.to_y) <= 0 &&
         side(b, a.from_x, a.from_y) * side(b, a.to_x, a.to_y) <= 0;
}

Callout callout_at(const CalloutRequest& request, double x, double y) {
  Callout callout;
  callout.box = {x, y, request.width, request.height};
  callout.from_x = request.bar.middle();
  callout.from_y = request.bar.y - 1;
  const bool above = callout.from_x >= x && callout.from_x <= x + request.width;
  callout.to_x = above ? callout.from_x : std::clamp(callout.from_x, x + 8, x + request.width - 8);
  callout.to_y = callout.box.bottom() + 1;
  callout.leader = !above || callout.from_y - callout.to_y > kNearEnough;
  return callout;
}

bool is_free(const Callout& callout, const std::vector<Callout>& placed) {
  return std::ranges::none_of(placed, [&](const Callout& other) {
    return with_room(callout.box).overlaps(with_room(other.box));
  });
}

// The distance from a bar to its label. A sideways distance costs more, because the label may seem
// to belong to a neighbour.
double distance(const CalloutRequest& request, const Callout& callout) {
  const double aside = std::abs(callout.box.middle() - request.bar.middle());
  const double above = request.bar.y - callout.box.bottom();
  return kAside * aside + above;
}

// Whether the leader of one callout runs through the other's label, or their leaders meet. A reader
// may then take one label for the other.
bool tangled(const Callout& a, const Callout& b) {
  return (a.leader && crosses(a, grown(b.box, 2, 2))) ||
         (b.leader && crosses(b, grown(a.box, 2, 2))) || (a.leader && b.leader && meet(a, b));
}

// The cost of a leader's way: a reader can follow it through a bar, but hardly through a label.
double disturbance(const Callout& callout, const std::vector<Callout>& placed,
                   const std::vector<Box>& bars) {
  double sum = 0;
  for (const Callout& other : placed) {
    if (tangled(callout, other)) sum += kThroughLabel;
  }
  if (!callout.leader) return sum;
  const auto through = [&](const Box& bar) {
    return bar.middle() != callout.from_x && crosses(callout, bar);
  };
  return sum + kThroughBar * static_cast<double>(std::ranges::count_if(bars, through));
}

struct Placing {
  Callout callout;
  double cost = std::numeric_limits<double>::max();
};

Placing place_one(const CalloutRequest& request, const std::vector<Callout>& placed,
                  const std::vector<Box>& bars, double left, double right) {
  Placing best;
  const double centred = request.bar.middle() - request.width / 2;
  const double reach = 3 * request.width;
  const double on_bar = request.bar.y - kGap - request.height;
  for (double aside = -reach; aside <= reach; aside += kSideStep) {
    const double x = std::clamp(centred + aside, left, right - request.width);
    const double above_bars =
        bars_top(bars, x - kGap, request.width + 2 * kGap) - kGap - request.height;
    // Level placed.size() is above all placed labels, so at least one level is free.
    for (size_t level = 0; level <= placed.size(); ++level) {
      double y = std::min(above_bars, on_bar);
      if (level > 0) y = std::min(y, placed[level - 1].box.y - kGap - 1 - request.height);
      const Callout callout = callout_at(request, x, y);
      double cost = distance(request, callout);
      if (cost >= best.cost || !is_free(callout, placed)) continue;
      cost += disturbance(callout, placed, bars);
      if (cost < best.cost) best = {callout, cost};
    }
  }
  return best;
}

// Middles as near as possible to the wanted ones, which ascend, and at least `apart` from each
// other. Labels that push each other away share the distance (isotonic regression by pooling
// adjacent violators).
std::vector<double> spread(const std::vector<double>& wanted, double apart) {
  struct Pool {
    double sum;
    double size;
    [[nodiscard]] double mean() const { return sum / size; }
  };
  std::vector<Pool> pools;
  for (size_t n = 0; n < wanted.size(); ++n) {
    pools.push_back({wanted[n] - static_cast<double>(n) * apart, 1});
    while (pools.size() > 1 && pools[pools.size() - 2].mean() > pools.back().mean()) {
      const Pool last = pools.back();
      pools.pop_back();
      pools.back() = {pools.back().sum + last.sum, pools.back().size + last.size};
    }
  }
  std::vector<double> middles;
  for (const Pool& pool : pools) {
    for (double n = 0; n < pool.size; ++n) {
      middles.push_back(pool.mean() + static_cast<double>(middles.size()) * apart);
    }
  }
  return middles;
}

// All labels on one level, in the order of their bars, with room below for the leaders. This order
// keeps leaders out of labels and apart from each other.
std::vector<Callout> place_row(const std::vector<CalloutRequest>& requests,
                               const std::vector<Box>& bars, double left, double right) {
  std::vector<size_t> order(requests.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, {}, [&](size_t index) { return requests[index].bar.middle(); });
  double width = 0;
  double height = 0;
  std::vector<double> wanted;
  for (const size_t index : order) {
    width = std::max(width, requests[index].width);
    height = std::max(height, requests[index].height);
    wanted.push_back(requests[index].bar.middle());
  }
  std::vector<double> middles = spread(wanted, width * (1 + kAsideRoom));
  const double row = middles.back() - middles.front();
  const double first = std::clamp(middles.front(), left + width / 2,
                                  std::max(left + width / 2, right - width / 2 - row));
  const double shift = first - middles.front();
  const double from = first - width / 2;
  double top = bars_top(bars, from, row + width);
  for (const CalloutRequest& request : requests) top = std::min(top, request.bar.y);
  std::vector<Callout> callouts(requests.size());
  for (size_t place = 0; place < order.size(); ++place) {
    const CalloutRequest& request = requests[order[place]];
    callouts[order[place]] =
        callout_at(request, middles[place] + shift - request.width / 2, top - kLeaderRoom - height);
  }
  return callouts;
}

}  // namespace

std::vector<Callout> place_callouts(const std::vector<CalloutRequest>& requests,
                                    const std::vector<Box>& bars, double left, double right) {
  std::vector<size_t> order(requests.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::vector<Callout> best(requests.size());
  double best_cost = std::numeric_limits<double>::max();
  // The first label takes the best place; keep the order with the lowest total cost.
  do {
    std::vector<Callout> placed;
    double cost = 0;
    for (const size_t index : order) {
      const Placing placing = place_one(requests[index], placed, bars, left, right);
      placed.push_back(placing.callout);
      cost += placing.cost;
    }
    if (cost >= best_cost) continue;
    best_cost = cost;
    for (size_t place = 0; place < order.size(); ++place) best[order[place]] = placed[place];
  } while (std::next_permutation(order.begin(), order.end()));
  for (size_t a = 0; a < best.size(); ++a) {
    for (size_t b = a + 1; b < best.size(); ++b) {
      if (tangled(best[a], best[b])) return place_row(requests, bars, left, right);
    }
  }
  return best;
}

}  // namespace moetrace::plot
