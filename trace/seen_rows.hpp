// Which rows of one step have been seen in a trace, layer by layer.
#pragma once

#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace moetrace::trace {

// Layers of a step rise, and the collector writes a layer's rows in the order of the batch
// (FORMAT.md). A line does not hold the row's place in the batch, and lost rows hide it, so a row
// is known by its request and position, and rows of a layer are taken in any order.
class SeenRows {
 public:
  // A step with this many announced rows and recorded layers.
  void begin(std::uint64_t rows, std::uint64_t layers);

  // Empty if such a row can be in this step after all that came before, else why not.
  std::string add(std::uint16_t layer, std::optional<std::uint64_t> request,
                  std::optional<std::uint64_t> position);

 private:
  using Key = std::pair<std::uint64_t, std::uint64_t>;  // request, position
  struct Row {
    Key key;
    int layer;  // the last one in which it was seen
  };

  std::string begin_layer(std::uint16_t layer);
  std::string add_unnamed();
  std::string check_room() const;

  std::uint64_t rows_ = 0;
  std::uint64_t layers_ = 0;
  std::uint64_t layers_seen_ = 0;
  int layer_ = -1;
  std::uint64_t unnamed_in_layer_ = 0;  // rows without a request or a position
  std::uint64_t most_unnamed_ = 0;      // the largest of these over all layers
  std::vector<Row> seen_;               // in the order of their first appearance
  std::size_t next_ = 0;  // where the next row of this layer is, if layers repeat their order
  boost::unordered_flat_map<Key, std::size_t> index_;  // into seen_
};

}  // namespace moetrace::trace
