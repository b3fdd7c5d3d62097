// Two processes on one real segment. Checks every field of every record, and that a killed writer
// leaves a complete prefix. It can't check reorderings that this machine's processor never does;
// the model tests do.
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <chrono>
#include <random>

#include "shm/collector_segment.hpp"
#include "shm/stress_record.hpp"
#include "shm/test_directory.hpp"

extern char** environ;

namespace moetrace {
namespace {

class Writer {
 public:
  Writer(const std::string& directory, std::uint64_t slots, std::uint32_t top_k,
         std::uint64_t records) {
    std::string arguments[] = {STRESS_WRITER, directory, std::to_string(slots),
                               std::to_string(top_k), std::to_string(records)};
    char* argv[] = {arguments[0].data(), arguments[1].data(), arguments[2].data(),
                    arguments[3].data(), arguments[4].data(), nullptr};
    if (::posix_spawn(&pid_, STRESS_WRITER, nullptr, nullptr, argv, environ) != 0) pid_ = -1;
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;
  ~Writer() {
    if (pid_ > 0) kill();
  }
  void kill() {
    ::kill(pid_, SIGKILL);
    wait();
  }
  int wait() {
    int status = -1;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return status;
  }
  bool started() const { return pid_ > 0; }

 private:
  pid_t pid_ = -1;
};

// Waits for the segment to get its final name, and opens it.
std::optional<CollectorSegment> find_segment(const std::string& directory) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (std::chrono::steady_clock::now() < deadline) {
    if (const auto names = list_segments(directory, "stress"); names && !names->empty()) {
      auto opened =
          CollectorSegment::open(directory, names->front(), CollectorSegment::Access::kCollect);
      if (opened) return std::move(*opened);
      ADD_FAILURE() << opened.error().message;
      return std::nullopt;
    }
    ::sched_yield();
  }
  return std::nullopt;
}

class Drain {
 public:
  explicit Drain(const CollectorSegment& segment)
      : map_(segment.map()), reader_(map_.route_ring(), map_.header().route_slots) {}

  // Checks the valid records, at most `limit`. False if none was valid.
  bool batch(std::uint64_t limit) {
    const std::uint64_t end = reader_.valid_end(position_, limit);
    const bool any = end != position_;
    for (; position_ != end; ++position_) {
      if (reader_.upper_at(position_) != stress::step_of(position_) ||
          !stress::matches(reader_.memory().slot(position_), map_.header().route_stride,
                           position_)) {
        ++wrong_;
      }
    }
    reader_.publish(position_);
    return any;
  }
  std::uint64_t position() const { return position_; }
  std::uint64_t wrong() const { return wrong_; }
  // Valid slots of this lap after the first invalid one.
  int after_the_hole() const {
    int count = 0;
    for (std::uint64_t n = 1; n < map_.header().route_slots; ++n)
      count += reader_.upper_at(position_ + n).has_value();
    return count;
  }

 private:
  const SegmentMap& map_;
  RingReader<MappedRing> reader_;
  std::uint64_t position_ = 0;
  std::uint64_t wrong_ = 0;
};

// Drains until the producer is dead and the ring empty. Asks whether it lives before each look, so
// that no record can come after the last look.
void drain_to_the_end(const CollectorSegment& segment, Drain& drain, std::uint64_t batch) {
  for (bool alive = true, any = true; alive || any;) {
    alive = segment.producer_alive();
    any = drain.batch(batch);
    if (!any) ::sched_yield();
  }
}

struct Shape {
  std::uint64_t slots;
  std::uint32_t top_k;
  std::uint64_t records;
};
class Stress : public ::testing::TestWithParam<Shape> {};

TEST_P(Stress, EveryRecordComesOnceAndWhole) {
  const TestDirectory directory;
  Writer writer(directory.path(), GetParam().slots, GetParam().top_k, GetParam().records);
  ASSERT_TRUE(writer.started());
  const auto segment = find_segment(directory.path());
  ASSERT_TRUE(segment);
  Drain drain(*segment);
  drain_to_the_end(*segment, drain, GetParam().slots / 4 + 1);
  EXPECT_EQ(drain.position(), GetParam().records);
  EXPECT_EQ(drain.wrong(), 0u);
  EXPECT_EQ(writer.wait(), 0);
}

TEST_P(Stress, AKilledWriterLeavesAWholePrefix) {
  std::mt19937_64 random(GetParam().slots);
  for (int round = 0; round < 10; ++round) {
    const TestDirectory directory;
    Writer writer(directory.path(), GetParam().slots, GetParam().top_k, UINT64_MAX);
    ASSERT_TRUE(writer.started());
    const auto segment = find_segment(directory.path());
    ASSERT_TRUE(segment);
    Drain drain(*segment);
    for (const std::uint64_t until = random() % 5000; drain.position() < until;) {
      if (!drain.batch(16)) ::sched_yield();
    }
    writer.kill();
    drain_to_the_end(*segment, drain, 16);
    EXPECT_EQ(drain.wrong(), 0u);
    EXPECT_EQ(drain.after_the_hole(), 0) << "a CPU commits in order";
    segment->unlink();
    EXPECT_TRUE(directory.files().empty());
  }
}

INSTANTIATE_TEST_SUITE_P(Rings, Stress,
                         ::testing::Values(Shape{64, 8, 2'000'000}, Shape{64, 32, 500'000},
                                           Shape{1 << 16, 4, 2'000'000}),
                         [](const auto& param) {
                           return std::to_string(param.param.slots) + "SlotsTop" +
                                  std::to_string(param.param.top_k);
                         });

}  // namespace
}  // namespace moetrace
