#include "daemon/cli/replay_steps.hpp"

#include <utility>

namespace moetrace::cli {

void ReplaySteps::add(const RowKey& row, std::uint16_t layer, std::span<const std::uint16_t> ids,
                      std::span<const float> weights) {
  // A cut may leave a part of a layer as the start of a new step. The row must then fit that step.
  while (!layers_.empty() && !fits_here(row, layer)) cut();
  if (layers_.empty() || layers_.back() != layer) start_layer(layer);
  if (in_first_layer()) append_first_layer_row(row);
  ++filled_;
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  weights_.insert(weights_.end(), weights.begin(), weights.end());
}

bool ReplaySteps::fits_here(const RowKey& row, std::uint16_t layer) const {
  if (layer != layers_.back()) return can_open_layer(layer) && rows_.front() == row;
  if (!in_first_layer()) return filled_ < rows_.size() && rows_[filled_] == row;
  if (rows_.size() == limits_.max_rows) return false;
  // The row might need one more span.
  if (spans_.size() == limits_.max_spans) return false;
  if (!limits_.falling_position_starts_step || !row.request ||
      row.position == MOETRACE_UNKNOWN_POSITION)
    return true;
  const auto last = last_position_.find(*row.request);
  // An equal position repeats (request, token, layer); a lower one falls. Both start a step.
  return last == last_position_.end() || row.position > last->second;
}

bool ReplaySteps::can_open_layer(std::uint16_t layer) const {
  return layer > layers_.back() && filled_ == rows_.size();
}

void ReplaySteps::start_layer(std::uint16_t layer) {
  layers_.push_back(layer);
  begins_.push_back(ids_.size());
  filled_ = 0;
}

void ReplaySteps::append_first_layer_row(const RowKey& row) {
  const auto number = static_cast<std::uint32_t>(rows_.size());
  rows_.push_back(row);
  if (!row.request) return;
  if (row.position != MOETRACE_UNKNOWN_POSITION) last_position_[*row.request] = row.position;
  if (!spans_.empty()) {
    moetrace_span& last = spans_.back();
    const bool unknown = row.position == MOETRACE_UNKNOWN_POSITION;
    if (last.request == *row.request && last.first_row + last.rows == number &&
        unknown == (last.first_position == MOETRACE_UNKNOWN_POSITION) &&
        (unknown || row.position == last.first_position + last.rows)) {
      ++last.rows;
      return;
    }
  }
  spans_.push_back({*row.request, row.position, number, 1});
}

// Emits the complete layers. An incomplete last layer becomes the first layer of a new step.
void ReplaySteps::cut() {
  const bool partial = !in_first_layer() && filled_ < rows_.size();
  if (!partial) {
    emit(layers_.size());
    rows_.clear();
    spans_.clear();
    layers_.clear();
    begins_.clear();
    ids_.clear();
    weights_.clear();
    last_position_.clear();
    filled_ = 0;
    return;
  }
  const std::size_t complete = layers_.size() - 1;
  emit(complete);
  const std::uint16_t layer = layers_.back();
  const auto entries = static_cast<std::ptrdiff_t>(begins_.back());
  ids_.erase(ids_.begin(), ids_.begin() + entries);
  weights_.erase(weights_.begin(), weights_.begin() + entries);
  const std::vector<RowKey> kept(rows_.begin(),
                                 rows_.begin() + static_cast<std::ptrdiff_t>(filled_));
  rows_.clear();
  spans_.clear();
  last_position_.clear();
  layers_.assign(1, layer);
  begins_.assign(1, 0);
  for (const RowKey& row : kept) append_first_layer_row(row);
}

void ReplaySteps::finish_step() {
  while (!layers_.empty()) cut();
}

void ReplaySteps::emit(std::size_t layers) {
  const std::size_t entries = layers < layers_.size() ? begins_[layers] : ids_.size();
  emit_({static_cast<std::uint32_t>(rows_.size()), spans_, std::span(layers_).first(layers),
         std::span(ids_).first(entries), std::span(weights_).first(entries)});
}

}  // namespace moetrace::cli
