// Producers build segments at full speed while collectors remove the files of dead producers.
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "shm/abandoned_files.hpp"
#include "shm/collector_segment.hpp"
#include "shm/producer_segment.hpp"
#include "shm/test_directory.hpp"

namespace moetrace {
namespace {

// A segment is created, found, drained and removed; what went wrong.
std::string live_once(const TestDirectory& directory) {
  const auto producer =
      ProducerSegment::create(directory.path(), "default", small_header(), kSmallSizes);
  if (!producer) return producer.error().message;
  const auto collector = CollectorSegment::open(directory.path(), producer->name(),
                                                CollectorSegment::Access::kCollect);
  if (!collector) return collector.error().message;
  if (!collector->producer_alive()) return "its producer seems dead";
  collector->unlink();
  return {};
}

TEST(SegmentRace, ALivingProducersFilesAreNeverTaken) {
  const TestDirectory directory;
  std::atomic<bool> done = false;
  std::vector<std::thread> cleaners;
  for (int n = 0; n < 2; ++n) {
    cleaners.emplace_back([&] {
      while (!done) remove_abandoned(directory.path(), "default");
    });
  }
  std::string failure;
  for (int n = 0; n < 1000 && failure.empty(); ++n) failure = live_once(directory);
  done = true;
  for (std::thread& cleaner : cleaners) cleaner.join();
  EXPECT_EQ(failure, "");
  EXPECT_EQ(directory.files(), std::vector<std::string>());
}

}  // namespace
}  // namespace moetrace
