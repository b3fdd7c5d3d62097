#include "shm/segment_sizes.hpp"

#include <gtest/gtest.h>

namespace moetrace {
namespace {

TEST(SizesFor, ArePowersOfTwoThatFit) {
  const SegmentSizes usual = sizes_for(64, 4);
  EXPECT_EQ(usual.route_slots, 64u * 1024 * 1024 / 64);
  EXPECT_EQ(usual.event_slots, usual.route_slots / 8);
  EXPECT_EQ(sizes_for(100, 4).route_slots, 2 * usual.route_slots) << "rounded up";
  EXPECT_EQ(sizes_for(64, 9).route_slots, usual.route_slots / 2);
  EXPECT_EQ(sizes_for(64, 32).route_slots, usual.route_slots / 4);
  EXPECT_EQ(sizes_for(64, 24).route_slots, usual.route_slots / 2) << "a stride of 192 bytes";
  EXPECT_EQ(sizes_for(1e-9, 1).route_slots, 64u);
  EXPECT_EQ(sizes_for(1e9, 1).route_slots, MOETRACE_MAX_ROUTE_SLOTS);
}

}  // namespace
}  // namespace moetrace
