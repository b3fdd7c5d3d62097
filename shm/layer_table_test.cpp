#include "shm/layer_table.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace moetrace {
namespace {

moetrace_ring_header header() {
  moetrace_ring_header header{};
  header.num_layers = 3;
  header.num_experts = 12;
  header.top_k = 4;
  return header;
}

TEST(LayerTable, WithoutEntriesAllLayersAreAsTheHeaderSays) {
  const LayerTable table(header(), {});
  EXPECT_FALSE(table.declared());
  for (std::uint32_t layer = 0; layer < 3; ++layer) {
    EXPECT_EQ(table.top_k_of(layer), 4u);
    EXPECT_EQ(table.ids_of(layer), 12u);
  }
}

TEST(LayerTable, EachLayerHasItsOwnTopKAndIds) {
  std::vector<moetrace_layer_entry> entries(3);
  entries[0].top_k = 2;
  entries[1].experts = 8;
  entries[2].experts = 8;
  entries[2].zero_experts = 3;
  entries[2].flags = MOETRACE_LAYER_ZERO_EXPERTS_KNOWN;
  const LayerTable table(header(), entries);
  EXPECT_TRUE(table.declared());
  EXPECT_EQ(table.top_k_of(0), 2u);
  EXPECT_EQ(table.top_k_of(1), 4u);
  EXPECT_EQ(table.ids_of(0), 12u);
  EXPECT_EQ(table.ids_of(1), 12u) << "it may have undeclared zero-computation experts";
  EXPECT_EQ(table.ids_of(2), 11u);
}

TEST(LayerTable, AnyFieldDeclares) {
  std::vector<moetrace_layer_entry> entries(3);
  EXPECT_FALSE(LayerTable(header(), entries).declared());
  entries[2].score[0] = 's';
  EXPECT_TRUE(LayerTable(header(), entries).declared());
}

}  // namespace
}  // namespace moetrace
