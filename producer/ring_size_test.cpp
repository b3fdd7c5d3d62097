// The ring's size where the ring directory is small, as a container's /dev/shm is.
#include <gtest/gtest.h>
#include <sys/mount.h>

#include <cstdlib>

#include "producer/producer.hpp"
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
  // False if we may not.
  bool mount(const char* size) {
    mounted = ::mount("tmpfs", directory.path().c_str(), "tmpfs", 0, size) == 0;
    return mounted;
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
  moetrace_options options;
};

TEST_F(RingSizeTest, TheUsualSizeIsNoWarning) {
  const auto settings = resolve_settings(options);
  ASSERT_TRUE(settings);
  EXPECT_EQ(settings->sizes.route_slots, 64 * kRecordsAMiB);
  EXPECT_EQ(settings->warning, "");
}

TEST_F(RingSizeTest, ADefaultRingTakesHalfOfASmallDirectory) {
  if (!mount("size=64m")) GTEST_SKIP() << "needs the right to mount";
  std::uint64_t used = 0;
  for (const std::uint64_t expected : {16, 16, 8, 4}) {
    const auto settings = resolve_settings(options);
    ASSERT_TRUE(settings) << settings.error().message;
    EXPECT_EQ(settings->sizes.route_slots, expected * kRecordsAMiB);
    EXPECT_TRUE(holds(settings->warning, "ring: " + std::to_string(expected) + " MiB for " +
                                             std::to_string(expected * kRecordsAMiB) + " records"))
        << settings->warning;
    const auto segment =
        ProducerSegment::create(settings->directory, "default", settings->header, settings->sizes);
    ASSERT_TRUE(segment) << segment.error().message;
    used += segment->map().header().ring_bytes;
  }
  EXPECT_LT(used, 64u << 20);
}

TEST_F(RingSizeTest, ASizeThatWasAskedForIsRoundedUpOrRefused) {
  if (!mount("size=64m")) GTEST_SKIP() << "needs the right to mount";
  ::setenv("MOETRACE_RING_MB", "20", 1);
  const auto settings = resolve_settings(options);
  ASSERT_TRUE(settings);
  EXPECT_EQ(settings->sizes.route_slots, 32 * kRecordsAMiB);
  EXPECT_TRUE(holds(settings->warning, "MOETRACE_RING_MB: 20 becomes 32 MiB for 524288 records"))
      << settings->warning;
  for (const char* size : {"64", "100"}) {
    ::setenv("MOETRACE_RING_MB", size, 1);
    const std::string why = refused();
    EXPECT_TRUE(holds(why, std::string("MOETRACE_RING_MB: ") + size + " asks for")) << why;
    EXPECT_TRUE(holds(why, " has 64 MiB free; ")) << why;
  }
  ::setenv("MOETRACE_RING_MB", "32", 1);
  EXPECT_EQ(resolve_settings(options)->warning, "");
}

TEST_F(RingSizeTest, AGroupThatCannotBeHadIsOneLine) {
  ::setenv("MOETRACE_GROUP", "no-such-group", 1);
  const std::string warning = resolve_settings(options)->warning;
  ::unsetenv("MOETRACE_GROUP");
  EXPECT_TRUE(holds(warning, "unknown group 'no-such-group', so the ring stays private; "))
      << warning;
}

}  // namespace
}  // namespace moetrace
