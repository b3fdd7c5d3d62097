#include "shm/producer_segment.hpp"

#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/test_segment_files.hpp"

namespace moetrace {
namespace {

std::int64_t page_faults() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_minflt;
}

// The thread sanitizer's shadow memory would add page faults of its own.
__attribute__((no_sanitize("thread"))) void write_pages(volatile std::byte* bytes,
                                                        std::size_t pages) {
  for (std::size_t page = 0; page < pages; ++page) bytes[page * 4096] = std::byte{1};
}

TEST(ProducerSegment, WritingItTakesNoPageFaults) {
  const TestDirectory directory;
  const ProducerSegment producer = make_segment(directory, {1 << 14, 64, 4});
  auto* bytes = static_cast<volatile std::byte*>(producer.map().ring_address());
  const std::size_t pages = producer.map().ring_bytes() / 4096;
  ASSERT_GT(pages, 256u);
  if (::madvise(producer.map().ring_address(), 4096, MADV_POPULATE_WRITE) != 0)
    GTEST_SKIP() << "a kernel before 5.14";
  const std::int64_t before = page_faults();
  write_pages(bytes, pages);
  EXPECT_LT(page_faults() - before, static_cast<std::int64_t>(pages / 4));
}

TEST(ProducerSegment, EveryPageIsAllocatedFromTheStart) {
  const TestDirectory directory;
  const ProducerSegment producer = make_segment(directory);
  struct stat status {};
  ASSERT_EQ(::stat(directory.file(producer.name().ring_file()).c_str(), &status), 0);
  EXPECT_GE(status.st_blocks * 512, status.st_size);
  EXPECT_EQ(static_cast<std::uint64_t>(status.st_size), producer.map().header().ring_bytes);
}

bool is_mapped(const void* page) {
  unsigned char resident;
  return ::mincore(const_cast<void*>(page), 1, &resident) == 0;
}

TEST(ProducerSegment, OnlyKeptMappingsStayAfterClose) {
  const TestDirectory directory;
  for (const bool kept : {true, false}) {
    const void* parts[3];
    {
      auto producer =
          ProducerSegment::create(directory.path(), "default", small_header(), kSmallSizes);
      ASSERT_TRUE(producer);
      if (kept) producer->keep_mapped();
      const SegmentMap& map = producer->map();
      parts[0] = map.state();
      parts[1] = map.counts();
      parts[2] = map.ctl();
      for (const void* part : parts) ASSERT_TRUE(is_mapped(part));
    }
    for (const void* part : parts) EXPECT_EQ(is_mapped(part), kept);
  }
}

TEST(ProducerSegment, IsHiddenUntilItIsPublished) {
  const TestDirectory directory;
  const auto build = [&] {
    return ProducerSegment::build(directory.path(), "default", small_header(), kSmallSizes);
  };
  {
    auto segment = build();
    ASSERT_TRUE(segment);
    EXPECT_TRUE(list_segments(directory.path(), "default")->empty());
    EXPECT_FALSE(segment->publish());
    EXPECT_EQ(list_segments(directory.path(), "default")->size(), 1u);
  }
  EXPECT_EQ(directory.files().size(), 2u) << "a published segment stays for its collector";
  ASSERT_TRUE(build());
  EXPECT_EQ(directory.files().size(), 2u) << "one that was not published is removed";
}

TEST(ProducerSegment, WrongLimitsAreNamed) {
  const TestDirectory directory;
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none = before;
  none.rlim_cur = 0;
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto files =
      ProducerSegment::create(directory.path(), "default", small_header(), kSmallSizes);
  const auto listed = list_segments(directory.path(), "default");
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_FALSE(files);
  EXPECT_NE(files.error().message.find("ulimit -n"), std::string::npos) << files.error().message;
  ASSERT_FALSE(listed);
  EXPECT_NE(listed.error().message.find("ulimit -n"), std::string::npos) << listed.error().message;
}

void expect_not_created(const std::string& path, const SegmentSizes& sizes, ErrorCode code,
                        const std::string& hint, const std::string& session = "default") {
  const auto made = ProducerSegment::create(path, session, small_header(), sizes);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, code) << made.error().message;
  EXPECT_NE(made.error().message.find(hint), std::string::npos) << made.error().message;
  EXPECT_EQ(made.error().message.find('\n'), std::string::npos);
}

TEST(SegmentCreation, SaysWhatIsWrongWithItsArguments) {
  const TestDirectory directory;
  expect_not_created(directory.path(), kSmallSizes, ErrorCode::kBadArgument, "not a session name",
                     "a b");
  expect_not_created(directory.path(), {63, 64, 4}, ErrorCode::kBadArgument, "route_slots");
  expect_not_created(directory.path(), {64, 0, 4}, ErrorCode::kBadArgument, "event_slots");
  expect_not_created(directory.path() + "/absent", kSmallSizes, ErrorCode::kNoDirectory,
                     "MOETRACE_DIR");
  EXPECT_TRUE(directory.files().empty());
}

TEST(SegmentCreation, ARingLargerThanTheTmpfsIsOneErrorAndLeavesNothing) {
  const TestDirectory directory;
  if (::mount("tmpfs", directory.path().c_str(), "tmpfs", 0, "size=1m") != 0) {
    GTEST_SKIP() << "needs the right to mount; the file size limit's test covers the same path";
  }
  expect_not_created(directory.path(), {1 << 20, 4096, 4096}, ErrorCode::kNoSpace,
                     "MOETRACE_RING_MB");
  EXPECT_TRUE(directory.files().empty());
  EXPECT_TRUE(ProducerSegment::create(directory.path(), "default", small_header(), kSmallSizes));
  EXPECT_EQ(::umount2(directory.path().c_str(), MNT_DETACH), 0);
}

TEST(SegmentCreation, AFileSizeLimitIsOneErrorAndLeavesNothing) {
  const TestDirectory directory;
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 16384;
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);  // its default would end the process
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  expect_not_created(directory.path(), {1 << 16, 4096, 4}, ErrorCode::kNoSpace, "ulimit -f");
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, handler);
  EXPECT_TRUE(directory.files().empty());
}

// Root may write everywhere, so it acts as another user.
TEST(SegmentCreation, WithoutTheRightToWrite) {
  constexpr uid_t kUser = 64001;
  const bool root = ::geteuid() == 0;
  const TestDirectory directory;
  if (root) {
    ASSERT_EQ(::chown(directory.path().c_str(), kUser, kUser), 0);
  }
  ASSERT_EQ(::chmod(directory.path().c_str(), 0500), 0);
  if (root) {
    ASSERT_EQ(::seteuid(kUser), 0);
  }
  expect_not_created(directory.path(), kSmallSizes, ErrorCode::kPermission, "MOETRACE_DIR");
  if (root) {
    ASSERT_EQ(::seteuid(0), 0);
  }
  ASSERT_EQ(::chmod(directory.path().c_str(), 0700), 0);
}

}  // namespace
}  // namespace moetrace
