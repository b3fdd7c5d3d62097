#include "shm/abandoned_files.hpp"

#include "shm/test_segment_files.hpp"

namespace moetrace {
namespace {

TEST(RemoveAbandoned, TakesEveryHalfBuiltState) {
  const SegmentName name{"default", kTraceId};
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
  const SegmentName name{"default", kTraceId};
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

}  // namespace
}  // namespace moetrace
