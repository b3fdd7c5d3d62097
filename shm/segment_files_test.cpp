// Names, listing, and what a producer leaves behind that died while it was building.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "shm/test_directory.hpp"

namespace moetrace {
namespace {

constexpr const char* kId = "01234567-89ab-cdef-0123-456789abcdef";

void touch(const std::string& path) {
  std::ofstream(path) << "x";
}

TEST(SessionName, LettersDigitsDashUnderscore) {
  EXPECT_TRUE(is_session_name("default"));
  EXPECT_TRUE(is_session_name("GPU-3_a"));
  EXPECT_TRUE(is_session_name(std::string(64, 'a')));
  EXPECT_FALSE(is_session_name(std::string(65, 'a')));
  EXPECT_FALSE(is_session_name(""));
  EXPECT_FALSE(is_session_name("a.b"));
  EXPECT_FALSE(is_session_name("a/b"));
  EXPECT_FALSE(is_session_name("é"));
}

TEST(ListSegments, LeavesOutWhatOnlyLooksSimilar) {
  const TestDirectory directory;
  for (const char* file :
       {"moetrace.v1.default.01234567-89ab-cdef-0123-456789abcdef.ctl",
        "moetrace.v1.default.01234567-89AB-cdef-0123-456789abcdef.ring",
        "moetrace.v1.default.0123456789abcdef.ring", "moetrace.v2.default.x.ring",
        "moetrace.v1.ring",
        ".building.moetrace.v1.default.01234567-89ab-cdef-0123-456789abcdef.ring"}) {
    touch(directory.file(file));
  }
  EXPECT_TRUE(list_segments(directory.path(), "default")->empty());
  touch(directory.file(SegmentName{"default", kId}.ring_file()));
  const auto found = list_segments(directory.path(), "default");
  ASSERT_EQ(found->size(), 1u);
  EXPECT_EQ(found->front().trace_id, kId);
}

TEST(ListSegments, WithoutADirectoryIsAnError) {
  const auto found = list_segments("/nonexistent", "default");
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, ErrorCode::kNoDirectory);
}

TEST(RingDirectory, FollowsTheEnvironment) {
  ::setenv("MOETRACE_DIR", "/somewhere", 1);
  EXPECT_EQ(default_ring_directory(), "/somewhere");
  ::setenv("MOETRACE_DIR", "", 1);
  EXPECT_TRUE(default_ring_directory() == "/run/moetrace" ||
              default_ring_directory() == "/dev/shm");
  ::unsetenv("MOETRACE_DIR");
}

TEST(RemoveAbandoned, TakesEveryHalfBuiltState) {
  const SegmentName name{"default", kId};
  const std::string hidden = ".building.";
  const std::vector<std::vector<std::string>> left_behind = {
      {hidden + name.ctl_file()},
      {hidden + name.ctl_file(), hidden + name.ring_file()},
      {name.ctl_file(), hidden + name.ring_file()},  // died between the renames
      {name.ctl_file()},                             // its collector died while it unlinked
      {hidden + name.ring_file()},
  };
  for (const auto& files : left_behind) {
    const TestDirectory directory;
    for (const std::string& file : files) touch(directory.file(file));
    remove_abandoned(directory.path(), "other");
    EXPECT_EQ(directory.files().size(), files.size()) << "another session's";
    remove_abandoned(directory.path(), "default");
    EXPECT_TRUE(directory.files().empty()) << files.front();
  }
}

TEST(RemoveAbandoned, LeavesTheLivingAndTheWhole) {
  const TestDirectory directory;
  const SegmentName name{"default", kId};
  const std::string ctl = directory.file(".building." + name.ctl_file());
  touch(ctl);
  touch(directory.file(".building." + name.ring_file()));
  {
    const auto lock = FileLock::acquire(ctl, MOETRACE_LOCK_PRODUCER);
    ASSERT_TRUE(lock);
    remove_abandoned(directory.path(), "default");
    EXPECT_EQ(directory.files().size(), 2u);
  }
  remove_abandoned(directory.path(), "default");
  EXPECT_TRUE(directory.files().empty());

  // A whole segment stays, also when its producer has ended: it has something to drain.
  auto made = ProducerSegment::create(directory.path(), "default", small_header(), kSmallSizes);
  ASSERT_TRUE(made);
  made->release();
  remove_abandoned(directory.path(), "default");
  EXPECT_EQ(directory.files().size(), 2u);
}

TEST(FileLock, KnowsWhenItsFileHasNoNameAnyMore) {
  const TestDirectory directory;
  const std::string path = directory.file("x.ctl");
  touch(path);
  const auto lock = FileLock::acquire(path, 0);
  ASSERT_TRUE(lock);
  EXPECT_TRUE(lock->linked());
  ::unlink(path.c_str());
  EXPECT_FALSE(lock->linked());
  EXPECT_EQ(FileLock::acquire(path, 0).error().code, ErrorCode::kNotFound);
}

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
