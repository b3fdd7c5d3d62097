#include "plotter/layer_heatmap.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "plotter/columns.hpp"
#include "plotter/header.hpp"
#include "plotter/metrics.hpp"
#include "plotter/ticks.hpp"

namespace moetrace::plot {
namespace {

// The colour scale and the column heads stand above.
constexpr double kPlotTop = 158;
constexpr double kFooter = 64;
constexpr double kPanelGap = 34;
constexpr double kPanelWidth = 190;
// Room for the longest bar's value.
constexpr double kPanelRight = 66;
constexpr double kTickSpacing = 36;
constexpr double kLayerSpacing = 18;
// Neighbours of the same shade become one rectangle.
constexpr int kColors = 64;
constexpr double kScaleWidth = 220;
constexpr double kScaleHeight = 12;

Color mix(const Color& a, const Color& b, double t) {
  return {a.red + t * (b.red - a.red), a.green + t * (b.green - a.green),
          a.blue + t * (b.blue - a.blue)};
}

// 3.14159 as "3.1×".
std::string as_factor(double factor) {
  char text[32];
  std::snprintf(text, sizeof text, factor < 10 ? "%.1f×" : "%.0f×", factor);
  return text;
}

constexpr double kPlotLeft = kSideMargin + 50;
constexpr double kPlotWidth = kSceneWidth - kPanelRight - kPanelWidth - kPanelGap - kPlotLeft;

// What one row shows.
struct LayerRow {
  uint16_t number;
  // By column: the share of its busiest expert x the layer's number of experts; 1 is the uniform
  // load. Empty: the layer has no routes.
  std::vector<double> ratios;
  double busiest = 0;
  size_t busiest_expert = 0;
  // Columns in which the layer has an expert.
  size_t columns = 0;
};

std::vector<LayerRow> layer_rows(const ExpertLoad& load, uint32_t column_experts) {
  std::vector<LayerRow> rows;
  for (const auto& [number, layer] : load.layers) {
    LayerRow row{.number = number,
                 .ratios = {},
                 .busiest = 0,
                 .busiest_expert = 0,
                 .columns = (layer.counts.size() + column_experts - 1) / column_experts};
    const uint64_t total = measure(layer.counts).total_selections;
    if (total > 0) {
      const double even = static_cast<double>(total) / static_cast<double>(layer.counts.size());
      for (const uint64_t count : busiest_of_each(layer.counts, column_experts)) {
        row.ratios.push_back(static_cast<double>(count) / even);
      }
      row.busiest = *std::ranges::max_element(row.ratios);
      row.busiest_expert =
          static_cast<size_t>(std::ranges::max_element(layer.counts) - layer.counts.begin());
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

class HeatmapLayout {
 public:
  explicit HeatmapLayout(const ExpertLoad& load)
      : load_(load),
        column_experts_(experts_a_column(load.num_experts, kPlotWidth)),
        rows_(layer_rows(load, column_experts_)) {
    for (const LayerRow& row : rows_) busiest_ = std::max(busiest_, row.busiest);
    const double rows = std::max<double>(1, static_cast<double>(rows_.size()));
    plot_ = {kPlotLeft, kPlotTop, kPlotWidth, std::max(48.0, std::min(rows * 22, 528.0))};
    row_height_ = plot_.height / rows;
    const uint32_t columns = (load.num_experts + column_experts_ - 1) / column_experts_;
    slot_ = plot_.width / (columns * column_experts_);
    // At least one doubling, so that noise of a uniform load does not look like a pattern. At most
    // three, so that one hot expert does not make the others fade.
    limit_ = std::clamp(std::ceil(std::log2(std::max(busiest_, 1.0))), 1.0, 3.0);
    scene_.width = kSceneWidth;
    scene_.height = plot_.bottom() + kFooter;
  }

  Scene lay_out() {
    std::string title = "Expert load by layer";
    add_header(scene_, {title, load_.model_id, describe_details(load_, load_.tokens), finding()});
    if (busiest_ == 0) {
      add_no_routes(scene_);
      return std::move(scene_);
    }
    add_scale();
    add_cells();
    add_missing_experts();
    add_layer_axis();
    add_id_axis();
    add_panel();
    return std::move(scene_);
  }

 private:
  [[nodiscard]] std::string finding() const {
    if (busiest_ == 0) return {};
    const auto& row = *std::ranges::max_element(rows_, {}, &LayerRow::busiest);
    return "Busiest: expert " + std::to_string(row.busiest_expert) + " of layer " +
           std::to_string(row.number) + ", " + as_factor(row.busiest) + " the uniform load";
  }

  void add_text(std::string text, const Color& color, Align align, double x, double y,
                const Font& font = kLabelFont) {
    scene_.texts.push_back(place_text(std::move(text), font, color, align, x, y));
  }

  void add_rect(const Box& box, const Color& color) {
    scene_.shapes.emplace_back(Rect{box, color});
  }

  void add_stroke(double x1, double y1, double x2, double y2, const Color& color,
                  bool dashed = false) {
    scene_.shapes.emplace_back(Stroke{x1, y1, x2, y2, color, 1, dashed});
  }

  // The colour scale above the map.
  void add_scale() {
    const double y = kPlotTop - 22;
    const double text_y = y + kScaleHeight / 2 - text_height(kLabelFont) / 2;
    const std::string lowest = "1/" + std::to_string(1 << static_cast<int>(limit_)) + " or less";
    const std::string highest = std::to_string(1 << static_cast<int>(limit_)) +
                                (busiest_ > std::exp2(limit_) ? "× or more" : "×");
    double x = plot_.x;
    add_text(lowest, palette::kSoftInk, Align::kLeft, x, text_y);
    x += text_width(lowest, kLabelFont) + 8;
    for (int shade = 0; shade < kColors; ++shade) {
      const double doublings = (2.0 * (shade + 0.5) / kColors - 1) * limit_;
      const double step = kScaleWidth / kColors;
      add_rect({x + shade * step, y, step + (shade + 1 < kColors ? 0.5 : 0), kScaleHeight},
               heat_color(std::exp2(doublings), limit_));
    }
    const double middle = x + kScaleWidth / 2;
    add_stroke(middle, y - 3, middle, y, palette::kAxis);
    add_text("uniform load", palette::kSoftInk, Align::kMiddle, middle,
             y - 4 - text_height(kLabelFont));
    x += kScaleWidth + 8;
    add_text(highest, palette::kSoftInk, Align::kLeft, x, text_y);
    if (!load_.layers_differ()) return;
    x += text_width(highest, kLabelFont) + 28;
    add_stroke(x, y + kScaleHeight / 2, x + 24, y + kScaleHeight / 2, palette::kAxis);
    add_text("no such expert", palette::kSoftInk, Align::kLeft, x + 32, text_y);
  }

  // A line through the columns in which a layer has no expert, in place of a cell.
  void add_missing_experts() {
    for (size_t index = 0; index < rows_.size(); ++index) {
      const double left =
          plot_.x + static_cast<double>(rows_[index].columns) * slot_ * column_experts_;
      // The last column may be wider than its experts.
      if (left + slot_ / 2 > plot_.right()) continue;
      add_stroke(left, row_middle(index), plot_.right(), row_middle(index), palette::kAxis);
    }
  }

  // One of kColors shades; -1 for an expert that was never picked.
  [[nodiscard]] int shade_of(double ratio) const {
    if (ratio <= 0) return -1;
    const double place = (std::clamp(std::log2(ratio) / limit_, -1.0, 1.0) + 1) / 2;
    return static_cast<int>(std::lround(place * (kColors - 1)));
  }

  [[nodiscard]] Color color_of(int shade) const {
    if (shade < 0) return heat_color(0, limit_);
    return heat_color(std::exp2((2.0 * shade / (kColors - 1) - 1) * limit_), limit_);
  }

  void add_cells() {
    for (size_t index = 0; index < rows_.size(); ++index) {
      const std::vector<double>& ratios = rows_[index].ratios;
      const double top = plot_.y + static_cast<double>(index) * row_height_;
      // White lines between the layers, if the rows are high enough.
      const double height = row_height_ > 8 ? row_height_ - 1 : row_height_;
      for (size_t first = 0; first < ratios.size();) {
        const int shade = shade_of(ratios[first]);
        size_t last = first + 1;
        while (last < ratios.size() && shade_of(ratios[last]) == shade) ++last;
        const double left = plot_.x + static_cast<double>(first) * slot_ * column_experts_;
        const double right = plot_.x + static_cast<double>(last) * slot_ * column_experts_;
        // Cells reach half a point under their right neighbour, so that no viewer shows a seam.
        const double under = last < ratios.size() ? 0.5 : 0;
        add_rect({left, top, right - left + under, height}, color_of(shade));
        first = last;
      }
    }
  }

  [[nodiscard]] double row_middle(size_t index) const {
    return plot_.y + (static_cast<double>(index) + 0.5) * row_height_ - (row_height_ > 8 ? 0.5 : 0);
  }

  [[nodiscard]] size_t labelled_every() const {
    return id_step(static_cast<uint32_t>(rows_.size()), row_height_, kLayerSpacing);
  }

  void add_layer_axis() {
    const double half = text_height(kLabelFont) / 2;
    for (size_t index = 0; index < rows_.size(); index += labelled_every()) {
      add_text(std::to_string(rows_[index].number), palette::kInk, Align::kRight, plot_.x - 8,
               row_middle(index) - half);
    }
    add_text("layer", palette::kSoftInk, Align::kRight, plot_.x - 8, kPlotTop - 2 * half - 9);
  }

  void add_id_axis() {
    const uint32_t step = id_step(load_.num_experts, slot_, id_spacing(load_.num_experts));
    const double y = plot_.bottom() + 3;
    for (uint32_t id = 0; id < load_.num_experts; id += step) {
      const double x = plot_.x + (id + 0.5) * slot_;
      add_stroke(x, y, x, y + 4, palette::kAxis);
      add_text(std::to_string(id), palette::kInk, Align::kMiddle, x, y + 7);
    }
    add_text(axis_of_experts(column_experts_, "cell"), palette::kSoftInk, Align::kMiddle,
             plot_.middle(), y + 11 + text_height(kLabelFont));
  }

  // The panel on the right: one bar per layer, as long as its busiest expert's load.
  void add_panel() {
    const double left = plot_.right() + kPanelGap;
    const double half = text_height(kLabelFont) / 2;
    add_text("busiest expert, × uniform load", palette::kSoftInk, Align::kLeft, left,
             kPlotTop - 2 * half - 9);
    add_panel_ticks(left);
    const auto busiest_row = std::ranges::max_element(rows_, {}, &LayerRow::busiest);
    const auto busiest_index = static_cast<size_t>(busiest_row - rows_.begin());
    for (size_t index = 0; index < rows_.size(); ++index) {
      const double length = rows_[index].busiest * kPanelWidth / busiest_;
      const double height = row_height_ * (row_height_ > 8 ? 0.62 : 0.9);
      const bool most = index == busiest_index;
      add_rect({left, row_middle(index) - height / 2, length, height},
               most ? palette::kAccent : palette::kBar);
      // In thin rows a value would run into the neighbouring bars; only the longest bar has room.
      if (most || labelled_every() == 1) {
        add_text(as_factor(rows_[index].busiest), palette::kInk, Align::kLeft, left + length + 6,
                 row_middle(index) - half);
      }
    }
    add_stroke(left, plot_.y, left, plot_.bottom(), palette::kAxis);
    const double even = left + kPanelWidth / busiest_;
    add_stroke(even, plot_.y, even, plot_.bottom() + 3, palette::kInk, true);
  }

  // 1×, the uniform load, and round multiples far enough from it.
  void add_panel_ticks(double left) {
    const auto add_tick = [&](uint64_t factor) {
      const double x = left + static_cast<double>(factor) * kPanelWidth / busiest_;
      add_stroke(x, plot_.bottom() + 3, x, plot_.bottom() + 7, palette::kAxis);
      add_text(std::to_string(factor) + "×", palette::kInk, Align::kMiddle, x, plot_.bottom() + 10);
      return x;
    };
    const double even = add_tick(1);
    // Each bar shows its value.
    if (labelled_every() == 1) return;
    const auto highest = static_cast<uint64_t>(busiest_);
    const uint64_t step = count_step(highest, 4);
    for (uint64_t factor = step; factor <= highest; factor += step) {
      const double x = left + static_cast<double>(factor) * kPanelWidth / busiest_;
      if (x - even < kTickSpacing) continue;
      add_stroke(x, plot_.y, x, plot_.bottom(), palette::kGrid);
      add_tick(factor);
    }
  }

  const ExpertLoad& load_;
  uint32_t column_experts_;
  std::vector<LayerRow> rows_;
  double busiest_ = 0;
  double limit_ = 1;
  double row_height_ = 0;
  // The width of one expert.
  double slot_ = 0;
  Box plot_;
  Scene scene_;
};

}  // namespace

Color heat_color(double ratio, double limit) {
  constexpr Color kEven{0.97, 0.97, 0.97};
  constexpr Color kCold{0.40, 0.63, 0.81}, kColdest{0.03, 0.24, 0.47};
  constexpr Color kHot{0.95, 0.63, 0.35}, kHottest{0.60, 0.20, 0.0};
  const double place = ratio <= 0 ? -1.0 : std::clamp(std::log2(ratio) / limit, -1.0, 1.0);
  const double strength = std::abs(place);
  const Color& near = place < 0 ? kCold : kHot;
  const Color& far = place < 0 ? kColdest : kHottest;
  return strength < 0.5 ? mix(kEven, near, 2 * strength) : mix(near, far, 2 * strength - 1);
}

Scene lay_out_heatmap(const ExpertLoad& load) {
  return HeatmapLayout(load).lay_out();
}

}  // namespace moetrace::plot
