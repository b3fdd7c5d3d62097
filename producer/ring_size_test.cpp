// The ring's size in a small ring directory, such as a container's /dev/shm.
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <cstdlib>

#include "producer/ring_producer.hpp"
#include "producer/settings.hpp"
#include "shm/test_directory.hpp"

namespace moetrace {
namespace {

constexpr std::uint64_t kRecordsAMiB = (1 << 20) / 64;

class RingSizeTest : public testing::Test {
 protected:
  void SetUp() override {
    ::unsetenv("MOETRACE_RING_MB");
    ::unsetenv("MOETRACE_GROUP");
    moetrace_options_init(&options, sizeof options);
    options.directory = directory.path().c_str();
    options.num_layers = 24;
    options.num_experts = 60;
    options.top_k = 8;
  }
  void TearDown() override {
    ::unsetenv("MOETRACE_RING_MB");
    if (mounted) ::umount2(directory.path().c_str(), MNT_DETACH);
  }
  // Returns false without the right to mount.
  bool mount(const char* size) {
    mounted = ::mount("tmpfs", directory.path().c_str(), "tmpfs", 0, size) == 0;
    return mounted;
  }
  // Of the ring; `text` is what the line at the opening says of it.
  std::uint64_t slots() {
    const auto settings = resolve_settings(options);
    EXPECT_TRUE(settings) << settings.error().message;
    text = settings ? settings->ring_text : "";
    return settings ? settings->sizes.route_slots : 0;
  }
  std::string refused() {
    const auto settings = resolve_settings(options);
    EXPECT_FALSE(settings);
    return settings ? "" : settings.error().message;
  }
  static bool holds(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  }

  TestDirectory directory;
  bool mounted = false;
  std::string text;
  moetrace_options options;
};

TEST_F(RingSizeTest, TheUsualSizeGivesNoWarning) {
  const auto settings = resolve_settings(options);
  ASSERT_TRUE(settings);
  EXPECT_EQ(settings->sizes.route_slots, 64 * kRecordsAMiB);
  EXPECT_EQ(settings->warning, "");
  EXPECT_EQ(settings->ring_text,
            "64 MiB by default: holds 43,690 tokens in 24 layers, 1.5 KiB a token");
}

TEST_F(RingSizeTest, AnOptionGoesBeforeTheVariableBeforeTheLargestStepBeforeTheDefault) {
  options.largest_step = 8192;
  // 4 * 8192 * 24 records, rounded up.
  EXPECT_EQ(slots(), 64 * kRecordsAMiB);
  options.num_layers = 48;
  EXPECT_EQ(slots(), 128 * kRecordsAMiB);
  ::setenv("MOETRACE_RING_MB", "2", 1);
  EXPECT_EQ(slots(), 2 * kRecordsAMiB);
  options.ring_mb = 1;
  EXPECT_EQ(slots(), kRecordsAMiB);
  EXPECT_EQ(text,
            "1 MiB from ring_mb: holds 0.0 steps of 8,192 tokens in 48 layers, 3 KiB a token");
  options.ring_mb = 0;
  EXPECT_EQ(slots(), 2 * kRecordsAMiB);
  EXPECT_EQ(text.find("2 MiB from MOETRACE_RING_MB: holds 0.1 steps of "), 0u) << text;
  ::unsetenv("MOETRACE_RING_MB");
  options.largest_step = 0;
  EXPECT_EQ(slots(), 64 * kRecordsAMiB);
}

TEST_F(RingSizeTest, TheLargestStepAsksForRoomForFour) {
  options.num_layers = 48;
  options.largest_step = 8192;
  EXPECT_EQ(slots(), 128 * kRecordsAMiB);
  EXPECT_EQ(text,
            "128 MiB for four of the largest steps: holds 5.3 steps of 8,192 tokens in 48 layers, "
            "3 KiB a token");
  // Exactly a power of two: 4 * 4096 * 16.
  options.layers = "0-15";
  options.largest_step = 4096;
  EXPECT_EQ(slots(), 1u << 18);
  options.largest_step = 4097;
  EXPECT_EQ(slots(), 1u << 19);
  // Records of two and of three units; the latter's sizes are no powers of two.
  options.top_k = 9;
  EXPECT_EQ(slots(), 1u << 19);
  EXPECT_EQ(text.find("64 MiB for "), 0u) << text;
  options.top_k = 24;
  EXPECT_EQ(slots(), 1u << 19);
  EXPECT_EQ(text.find("96 MiB for "), 0u) << text;
}

TEST_F(RingSizeTest, AnAskedRingHasALeastAndAMostSize) {
  options.layers = "3";
  options.largest_step = 1;
  EXPECT_EQ(slots(), 4 * kRecordsAMiB);
  EXPECT_EQ(text,
            "4 MiB for four of the largest steps: holds 65,536 steps of 1 token in 1 layer, 64 "
            "bytes a token");
  if (!mount("size=64m")) GTEST_SKIP() << "needs the right to mount";
  options.largest_step = UINT64_MAX;
  EXPECT_EQ(slots(), 16 * kRecordsAMiB);
}

TEST_F(RingSizeTest, AnAskedRingTakesHalfOfASmallDirectory) {
  if (!mount("size=100m")) GTEST_SKIP() << "needs the right to mount";
  options.num_layers = 48;
  options.largest_step = 8192;
  EXPECT_EQ(slots(), 32 * kRecordsAMiB);
  EXPECT_EQ(text,
            "32 MiB instead of 128 MiB for four of the largest steps: holds 1.3 steps of 8,192 "
            "tokens in 48 layers, 3 KiB a token");
  EXPECT_EQ(resolve_settings(options)->warning,
            "ring: only 32 MiB (524288 records) instead of 128 MiB for four of the largest steps, "
            "because " +
                directory.path() +
                " has 100 MiB free; enlarge it (Docker: --shm-size=1g), or set MOETRACE_RING_MB");
  options.largest_step = 2000;
  EXPECT_EQ(slots(), 32 * kRecordsAMiB) << "it fits, and nothing is reduced";
  EXPECT_EQ(resolve_settings(options)->warning, "");
  // An explicit size may take more than half, and is an error if it does not fit.
  options.ring_mb = 64;
  EXPECT_EQ(slots(), 64 * kRecordsAMiB);
  options.ring_mb = 128;
  EXPECT_TRUE(holds(refused(), "invalid value '128' for ring_mb: a ring of 128 MiB"));
}

TEST_F(RingSizeTest, ADefaultRingTakesHalfOfASmallDirectory) {
  if (!mount("size=64m")) GTEST_SKIP() << "needs the right to mount";
  std::uint64_t used = 0;
  for (const std::uint64_t expected : {16, 16, 8, 4}) {
    const auto settings = resolve_settings(options);
    ASSERT_TRUE(settings) << settings.error().message;
    EXPECT_EQ(settings->sizes.route_slots, expected * kRecordsAMiB);
    EXPECT_TRUE(holds(settings->warning, "ring: only " + std::to_string(expected) + " MiB (" +
                                             std::to_string(expected * kRecordsAMiB) + " records)"))
        << settings->warning;
    const auto segment =
        ProducerSegment::create(settings->directory, "default", settings->header, settings->sizes);
    ASSERT_TRUE(segment) << segment.error().message;
    used += segment->map().header().ring_bytes;
  }
  EXPECT_LT(used, 64u << 20);
}

TEST_F(RingSizeTest, ARequestedSizeIsRoundedUpOrRefused) {
  if (!mount("size=64m")) GTEST_SKIP() << "needs the right to mount";
  ::setenv("MOETRACE_RING_MB", "20", 1);
  const auto settings = resolve_settings(options);
  ASSERT_TRUE(settings);
  EXPECT_EQ(settings->sizes.route_slots, 32 * kRecordsAMiB);
  EXPECT_TRUE(
      holds(settings->warning, "MOETRACE_RING_MB: rounded 20 MiB up to 32 MiB (524288 records)"))
      << settings->warning;
  for (const char* size : {"64", "100"}) {
    ::setenv("MOETRACE_RING_MB", size, 1);
    const std::string why = refused();
    EXPECT_TRUE(
        holds(why, std::string("invalid value '") + size + "' for MOETRACE_RING_MB: a ring of"))
        << why;
    EXPECT_TRUE(holds(why, " has 64 MiB free; ")) << why;
  }
  ::setenv("MOETRACE_RING_MB", "32", 1);
  EXPECT_EQ(resolve_settings(options)->warning, "");
}

TEST_F(RingSizeTest, AnUnknownGroupIsOneLine) {
  ::setenv("MOETRACE_GROUP", "no-such-group", 1);
  const std::string warning = resolve_settings(options)->warning;
  ::unsetenv("MOETRACE_GROUP");
  EXPECT_TRUE(holds(warning, "unknown group 'no-such-group', so the ring stays private; "))
      << warning;
}

}  // namespace
}  // namespace moetrace
