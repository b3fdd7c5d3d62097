#include "trace/seen_rows.hpp"

#include <algorithm>

namespace moetrace::trace {

void SeenRows::begin(std::uint64_t rows, std::uint64_t layers) {
  rows_ = rows;
  layers_ = layers;
  layers_seen_ = 0;
  layer_ = -1;
  most_unnamed_ = 0;
  seen_.clear();
  index_.clear();
}

std::string SeenRows::add(std::uint16_t layer, std::optional<std::uint64_t> request,
                          std::optional<std::uint64_t> position) {
  if (layer != layer_) {
    if (std::string why = begin_layer(layer); !why.empty()) return why;
  }
  if (!request || !position) return add_unnamed();

  const Key key(*request, *position);
  // Layers nearly always list the same rows in the same order, so no look-up is needed after the
  // first.
  std::size_t place = next_;
  if (place >= seen_.size() || seen_[place].key != key) {
    const auto [found, is_new] = index_.try_emplace(key, seen_.size());
    if (is_new) seen_.push_back({key, -1});
    place = found->second;
  }
  next_ = place + 1;
  if (seen_[place].layer == layer) {
    return "request " + std::to_string(*request) + ", token " + std::to_string(*position) +
           " comes twice in layer " + std::to_string(layer) + " of one step";
  }
  seen_[place].layer = layer;
  return check_room();
}

std::string SeenRows::begin_layer(std::uint16_t layer) {
  if (layer < layer_) {
    return "layer " + std::to_string(layer) + " after layer " + std::to_string(layer_) +
           " of the same step";
  }
  layer_ = layer;
  next_ = 0;
  unnamed_in_layer_ = 0;
  if (++layers_seen_ > layers_) {
    return "layer " + std::to_string(layer) + " is one more than the " + std::to_string(layers_) +
           " that the step line announced";
  }
  return {};
}

std::string SeenRows::add_unnamed() {
  most_unnamed_ = std::max(most_unnamed_, ++unnamed_in_layer_);
  return check_room();
}

std::string SeenRows::check_room() const {
  if (seen_.size() + most_unnamed_ <= rows_) return {};
  return "is one row more than the " + std::to_string(rows_) + " that the step line announced";
}

}  // namespace moetrace::trace
