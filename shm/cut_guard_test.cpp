#include "shm/cut_guard.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <optional>

#include "shm/test_segment_files.hpp"

namespace moetrace {
namespace {

TEST(CutGuard, CutFilesAreNoticedWhileOpen) {
  for (const bool cut_ring : {true, false}) {
    const TestDirectory directory;
    const ProducerSegment producer = make_segment(directory);
    const auto collector = open_segment(directory, producer.name());
    ASSERT_TRUE(collector);
    const std::string path =
        directory.file(cut_ring ? producer.name().ring_file() : producer.name().ctl_file());
    ASSERT_EQ(::truncate(path.c_str(), 100), 0);
    EXPECT_FALSE(collector->intact()) << path;
  }
}

TEST(CutGuard, CutPagesAreZerosAndNoSignal) {
  const TestDirectory directory;
  const ProducerSegment producer = make_segment(directory);
  std::optional<CollectorSegment> collector = std::move(*open_segment(directory, producer.name()));
  const auto neighbour =
      open_segment(directory, producer.name(), CollectorSegment::Access::kObserve);
  ASSERT_TRUE(neighbour);
  const std::string ring = directory.file(producer.name().ring_file());
  const std::size_t bytes = collector->map().header().ring_bytes;
  ASSERT_EQ(::truncate(ring.c_str(), 8192), 0);
  const auto* first = reinterpret_cast<const volatile unsigned char*>(collector->map().state()) -
                      collector->map().header().state_offset;
  EXPECT_EQ(first[0], 'M');
  EXPECT_EQ(first[8192], 0);
  EXPECT_EQ(first[bytes - 1], 0);
  // Restoring the length does not clear the reader that met the gap. Its neighbour never touched
  // the gap, and stays intact.
  ASSERT_EQ(::truncate(ring.c_str(), static_cast<off_t>(bytes)), 0);
  EXPECT_FALSE(collector->intact());
  EXPECT_TRUE(neighbour->intact());
  collector.reset();
  for (int n = 0; n < 1'000; ++n)  // an entry of the table is given back
    ASSERT_TRUE(open_segment(directory, producer.name(), CollectorSegment::Access::kObserve));
  EXPECT_EXIT(
      {
        const int fd = ::open(ring.c_str(), O_RDONLY | O_CLOEXEC);
        const auto* page = static_cast<const volatile unsigned char*>(
            ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0));
        if (::truncate(ring.c_str(), 0) == 0) std::exit(page[0]);
      },
      ::testing::KilledBySignal(SIGBUS), "");
}

}  // namespace
}  // namespace moetrace
