#include "plotter/expert_histogram.hpp"

#include <algorithm>
#include <cstdio>

#include "common/text.hpp"
#include "plotter/callouts.hpp"
#include "plotter/columns.hpp"
#include "plotter/metrics.hpp"
#include "plotter/ticks.hpp"

namespace moetrace::plot {
namespace {

constexpr double kHeight = 600;
// Column heads stand above.
constexpr double kPlotTop = 144;
// Id labels and the axis name stand below.
constexpr double kPlotBottom = 536;
// Holds the uniform line's label.
constexpr double kRightMargin = 100;
// Between shares and counts on the left.
constexpr double kColumnGap = 14;
// Between the axis and its labels.
constexpr double kLabelGap = 8;
constexpr int kMostCountSteps = 6;

// "The three busiest experts", and how many more tie with the third.
std::string name_of_top_3(const Histogram& histogram, const Metrics& metrics) {
  const auto last = static_cast<uint64_t>(
      std::ranges::count(histogram.counts, metrics.top_3.back().count) -
      std::ranges::count(metrics.top_3, metrics.top_3.back().count, &ExpertShare::count));
  std::string text = "The three busiest experts";
  if (last > 0)
    text += " (" + grouped(last) + (last == 1 ? " more ties" : " more tie") + " with the third)";
  return text;
}

std::string finding(const Histogram& histogram, const Metrics& metrics) {
  if (metrics.total_selections == 0) return {};
  char entropy[96];
  std::snprintf(entropy, sizeof entropy, "entropy %.2f of %.2f bits", *metrics.entropy_bits,
                metrics.max_entropy_bits);
  std::string text;
  if (metrics.top_3.size() == 3) {
    text = name_of_top_3(histogram, metrics) + " take " + as_share(metrics.top_3_share(), 1) +
           " of all selections; ";
  }
  if (!histogram.comparable) {
    text += "layers differ in their experts, so no uniform load is shown";
    text[0] = text[0] == 'l' ? 'L' : text[0];
    return text;
  }
  text += entropy;
  if (metrics.normalized_entropy) {
    text += " (" + as_percent(*metrics.normalized_entropy, 1) + " of the maximum)";
  }
  text[0] = text[0] == 'e' ? 'E' : text[0];
  return text;
}

// One tick of the left axis: a count, and its share of all selections.
struct CountTick {
  uint64_t count;
  std::string text;
  std::string share;
};

std::vector<CountTick> count_ticks(uint64_t highest, uint64_t total) {
  std::vector<CountTick> ticks;
  const uint64_t step = count_step(highest, kMostCountSteps);
  const double share = static_cast<double>(step) / static_cast<double>(total);
  const int decimals = share >= 0.01 ? 1 : share >= 0.001 ? 2 : 3;
  for (uint64_t count = 0; count <= highest; count += step) {
    const double part = static_cast<double>(count) / static_cast<double>(total);
    ticks.push_back({count, grouped(count), count == 0 ? "0%" : as_percent(part, decimals)});
  }
  return ticks;
}

// The callouts' two lines: "expert 43" and "14.8% · 7,589".
struct TopLabel {
  std::string name;
  std::string value;
  [[nodiscard]] double width() const {
    return std::max(text_width(name, kLabelFontBold), text_width(value, kLabelFont));
  }
};

class HistogramLayout {
 public:
  explicit HistogramLayout(const Histogram& histogram)
      : histogram_(histogram), metrics_(measure(histogram.counts)) {
    scene_.width = kSceneWidth;
    scene_.height = kHeight;
  }

  Scene lay_out() {
    Header header = histogram_.header;
    header.finding = finding(histogram_, metrics_);
    add_header(scene_, header);
    if (metrics_.total_selections == 0) {
      add_no_routes(scene_);
      return std::move(scene_);
    }
    highest_ = metrics_.top_3.front().count;
    place_plot();
    place_bars_and_callouts();
    add_count_axis();
    add_bars();
    if (histogram_.comparable) add_uniform_line();
    add_id_axis();
    add_callouts();
    return std::move(scene_);
  }

 private:
  // The columns of the left axis are as wide as their texts; the bars get the rest.
  void place_plot() {
    ticks_ = count_ticks(highest_, metrics_.total_selections);
    double counts = text_width("selections", kLabelFont);
    double shares = text_width("share", kLabelFont);
    for (const CountTick& tick : ticks_) {
      counts = std::max(counts, text_width(tick.text, kLabelFont));
      shares = std::max(shares, text_width(tick.share, kLabelFont));
    }
    shares_right_ = kSideMargin + shares;
    counts_right_ = shares_right_ + kColumnGap + counts;
    plot_ = {counts_right_ + kLabelGap, kPlotTop, 0, kPlotBottom - kPlotTop};
    plot_.width = kSceneWidth - kRightMargin - plot_.x;
    const auto experts = static_cast<uint32_t>(histogram_.counts.size());
    column_experts_ = experts_a_column(experts, plot_.width);
    columns_ = busiest_of_each(histogram_.counts, column_experts_);
    slot_ = plot_.width / static_cast<double>(columns_.size() * column_experts_);
  }

  [[nodiscard]] double y_of(double count) const {
    return plot_.bottom() - count / static_cast<double>(highest_) * (plot_.height - headroom_);
  }

  void place_bars() {
    bars_.clear();
    const double slot = slot_ * column_experts_;
    const double width = std::min(slot * (slot > 5 ? 0.78 : 0.88), 64.0);
    for (size_t column = 0; column < columns_.size(); ++column) {
      const double x = plot_.x + (static_cast<double>(column) + 0.5) * slot - width / 2;
      const double y = y_of(static_cast<double>(columns_[column]));
      bars_.push_back({x, y, width, plot_.bottom() - y});
    }
  }

  [[nodiscard]] const Box& bar_of(uint32_t expert) const { return bars_[expert / column_experts_]; }

  // The expert's own part of its bar.
  [[nodiscard]] Box place_of(uint32_t expert) const {
    const Box& bar = bar_of(expert);
    if (column_experts_ == 1) return bar;
    return {plot_.x + expert * slot_, bar.y, slot_, bar.height};
  }

  // Labels stand above the bars, so the bars leave headroom: first for one label, then for more
  // labels on top of each other until they fit.
  void place_bars_and_callouts() {
    const double height = text_height(kLabelFontBold) + text_height(kLabelFont);
    for (const ExpertShare& top : metrics_.top_3) {
      top_labels_.push_back(
          {"expert " + std::to_string(top.expert),
           as_share(top.share, top.share < 0.1 ? 2 : 1) + " · " + grouped(top.count)});
    }
    const size_t levels = metrics_.top_3.size() + 2;
    for (size_t level = 1; level <= levels; ++level) {
      headroom_ = static_cast<double>(level) * (height + 8);
      place_bars();
      std::vector<CalloutRequest> requests;
      for (size_t rank = 0; rank < metrics_.top_3.size(); ++rank) {
        requests.push_back(
            {bar_of(metrics_.top_3[rank].expert), top_labels_[rank].width(), height});
      }
      callouts_ = place_callouts(requests, bars_, plot_.x + 4, plot_.right());
      const auto fits = [&](const Callout& callout) { return callout.box.y >= plot_.y; };
      if (std::ranges::all_of(callouts_, fits)) return;
    }
  }

  void add_text(std::string text, const Color& color, Align align, double x, double y,
                const Font& font = kLabelFont) {
    scene_.texts.push_back(place_text(std::move(text), font, color, align, x, y));
  }

  void add_count_axis() {
    const double half = text_height(kLabelFont) / 2;
    const double heads = kPlotTop - 2 * half - 10;
    add_text("share", palette::kSoftInk, Align::kRight, shares_right_, heads);
    add_text("selections", palette::kInk, Align::kRight, counts_right_, heads);
    for (const CountTick& tick : ticks_) {
      const double y = y_of(static_cast<double>(tick.count));
      if (tick.count > 0) {
        scene_.shapes.emplace_back(Stroke{plot_.x, y, plot_.right(), y, palette::kGrid, 1, false});
      }
      add_text(tick.share, palette::kSoftInk, Align::kRight, shares_right_, y - half);
      add_text(tick.text, palette::kInk, Align::kRight, counts_right_, y - half);
    }
    scene_.shapes.emplace_back(Stroke{plot_.x, y_of(static_cast<double>(highest_)), plot_.x,
                                      plot_.bottom(), palette::kAxis, 1, false});
  }

  void add_bars() {
    for (const Box& bar : bars_) {
      if (bar.height > 0) scene_.shapes.emplace_back(Rect{bar, palette::kBar});
    }
    for (const ExpertShare& top : metrics_.top_3) {
      scene_.shapes.emplace_back(Rect{bar_of(top.expert), palette::kAccent});
    }
  }

  void add_uniform_line() {
    const auto experts = static_cast<double>(histogram_.counts.size());
    const double y = y_of(static_cast<double>(metrics_.total_selections) / experts);
    scene_.shapes.emplace_back(Stroke{plot_.x, y, plot_.right() + 4, y, palette::kInk, 1.2, true});
    const double height = text_height(kLabelFont);
    // Beside the line, but not below the axis.
    const double middle = std::min(y, plot_.bottom() - height);
    add_text("uniform", palette::kInk, Align::kLeft, plot_.right() + 8, middle - height);
    add_text(as_share(1 / experts, 2), palette::kSoftInk, Align::kLeft, plot_.right() + 8, middle);
  }

  void add_id_axis() {
    scene_.shapes.emplace_back(
        Stroke{plot_.x, plot_.bottom(), plot_.right(), plot_.bottom(), palette::kAxis, 1, false});
    const auto ids = static_cast<uint32_t>(histogram_.counts.size());
    const uint32_t step = id_step(ids, slot_, id_spacing(ids));
    const double labels_y = plot_.bottom() + 8;
    for (uint32_t id = 0; id < ids; id += step) {
      const double x = plot_.x + (id + 0.5) * slot_;
      scene_.shapes.emplace_back(
          Stroke{x, plot_.bottom(), x, plot_.bottom() + 4, palette::kAxis, 1, false});
      add_text(std::to_string(id), palette::kInk, Align::kMiddle, x, labels_y);
    }
    add_text(axis_of_experts(column_experts_, "bar"), palette::kSoftInk, Align::kMiddle,
             plot_.middle(), labels_y + text_height(kLabelFont) + 5);
  }

  void add_callouts() {
    for (size_t rank = 0; rank < callouts_.size(); ++rank) {
      const Callout& callout = callouts_[rank];
      // A white box keeps grid lines out of the text.
      scene_.shapes.emplace_back(Rect{callout.box, palette::kPaper});
      if (callout.leader) {
        scene_.shapes.emplace_back(Stroke{callout.from_x, callout.from_y, callout.to_x,
                                          callout.to_y, palette::kAccent, 0.9, false});
      }
      const double middle = callout.box.middle();
      add_text(top_labels_[rank].name, palette::kAccent, Align::kMiddle, middle, callout.box.y,
               kLabelFontBold);
      add_text(top_labels_[rank].value, palette::kInk, Align::kMiddle, middle,
               callout.box.y + text_height(kLabelFontBold));
    }
  }

  const Histogram& histogram_;
  Metrics metrics_;
  Scene scene_;
  uint64_t highest_ = 0;
  double headroom_ = 0;
  // The width of one expert.
  double slot_ = 0;
  uint32_t column_experts_ = 1;
  double shares_right_ = 0;
  double counts_right_ = 0;
  Box plot_;
  std::vector<CountTick> ticks_;
  // By bar.
  std::vector<uint64_t> columns_;
  std::vector<Box> bars_;
  std::vector<TopLabel> top_labels_;
  std::vector<Callout> callouts_;
};

std::vector<uint16_t> layer_numbers(const ExpertLoad& load) {
  std::vector<uint16_t> numbers;
  for (const auto& [number, layer] : load.layers) numbers.push_back(number);
  return numbers;
}

}  // namespace

Histogram histogram_of_all_layers(const ExpertLoad& load) {
  const std::vector<uint16_t> numbers = layer_numbers(load);
  std::string title = "Expert load";
  if (numbers.size() == 1) title += ", layer " + layer_ranges(numbers);
  if (numbers.size() > 1) {
    title += ", " + std::to_string(numbers.size()) + " layers (" + layer_ranges(numbers) + ")";
  }
  return {.counts = load.total().counts,
          .header = {title, load.model_id, describe_details(load, load.tokens), {}},
          .comparable = !load.layers_differ()};
}

Histogram histogram_of_layer(const ExpertLoad& load, uint16_t layer) {
  const LayerLoad& one = load.layers.at(layer);
  return {.counts = one.counts,
          .header = {"Expert load, layer " + std::to_string(layer),
                     load.model_id,
                     describe_details(load, one.rows, layer),
                     {}},
          .comparable = true};
}

Scene lay_out(const Histogram& histogram) {
  return HistogramLayout(histogram).lay_out();
}

}  // namespace moetrace::plot
