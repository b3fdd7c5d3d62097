#include "plotter/callouts.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace moetrace::plot {
namespace {

constexpr double kGap = 5;         // between a label and what is below or beside it
constexpr double kSideStep = 4;    // sideways search
constexpr double kNearEnough = 9;  // a label that close to its bar needs no line

// The top of the highest bar that is below [x, x + width].
double bars_top(const std::vector<Box>& bars, double x, double width) {
  double top = std::numeric_limits<double>::max();
  for (const Box& bar : bars) {
    if (bar.right() > x && bar.x < x + width) top = std::min(top, bar.y);
  }
  return top;
}

Box grown(const Box& box, double by) {
  return {box.x - by, box.y - by, box.width + 2 * by, box.height + 2 * by};
}

// Sampled along the line: boxes are some 30 points high, so a step of a few points can't jump one.
bool crosses(const Callout& line, const Box& box) {
  constexpr int kSamples = 200;
  for (int sample = 0; sample <= kSamples; ++sample) {
    const double t = static_cast<double>(sample) / kSamples;
    const double x = line.from_x + t * (line.to_x - line.from_x);
    const double y = line.from_y + t * (line.to_y - line.from_y);
    if (x > box.x && x < box.right() && y > box.y && y < box.bottom()) return true;
  }
  return false;
}

Callout callout_at(const CalloutRequest& request, double x, double y) {
  Callout callout;
  callout.box = {x, y, request.width, request.height};
  callout.from_x = request.bar.middle();
  callout.from_y = request.bar.y - 1;
  callout.to_x = std::clamp(callout.from_x, x + 8, x + request.width - 8);
  callout.to_y = callout.box.bottom() + 1;
  const bool above = callout.to_x == callout.from_x;
  callout.leader = !above || callout.from_y - callout.to_y > kNearEnough;
  return callout;
}

bool is_free(const Callout& callout, const std::vector<Callout>& placed,
             const std::vector<Box>& bars) {
  const auto hits_label = [&](const Callout& other) {
    if (grown(callout.box, kGap / 2).overlaps(grown(other.box, kGap / 2))) return true;
    return (callout.leader && crosses(callout, grown(other.box, 2))) ||
           (other.leader && crosses(other, grown(callout.box, 2)));
  };
  const auto line_hits_bar = [&](const Box& bar) {
    return bar.middle() != callout.from_x && crosses(callout, bar);
  };
  if (std::ranges::any_of(placed, hits_label)) return false;
  return !callout.leader || std::ranges::none_of(bars, line_hits_bar);
}

// How far the eye has to go from the bar to its label. Sideways is worse: it may seem to label a
// neighbour.
double distance(const CalloutRequest& request, const Callout& callout) {
  const double aside = std::abs(callout.box.middle() - request.bar.middle());
  const double above = request.bar.y - callout.box.bottom();
  return 1.2 * aside + above;
}

}  // namespace

std::vector<Callout> place_callouts(const std::vector<CalloutRequest>& requests,
                                    const std::vector<Box>& bars, double left, double right) {
  std::vector<Callout> placed;
  for (const CalloutRequest& request : requests) {
    Callout best;
    double best_distance = std::numeric_limits<double>::max();
    const double centred = request.bar.middle() - request.width / 2;
    const double reach = 3 * request.width;
    for (double aside = -reach; aside <= reach; aside += kSideStep) {
      const double x = std::clamp(centred + aside, left, right - request.width);
      const double lowest =
          bars_top(bars, x - kGap, request.width + 2 * kGap) - kGap - request.height;
      for (size_t level = 0; level <= placed.size() + 1; ++level) {
        const double y = std::min(lowest, request.bar.y - kGap - request.height) -
                         static_cast<double>(level) * (request.height + kGap + 1);
        const Callout candidate = callout_at(request, x, y);
        const double cost = distance(request, candidate);
        if (cost < best_distance && is_free(candidate, placed, bars)) {
          best = candidate;
          best_distance = cost;
        }
      }
    }
    placed.push_back(best);
  }
  return placed;
}

}  // namespace moetrace::plot
