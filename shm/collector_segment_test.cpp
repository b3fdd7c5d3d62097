#include "shm/collector_segment.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <vector>

#include "shm/test_segment_files.hpp"

namespace moetrace {
namespace {

TEST(CollectorSegment, IsFoundOpenedAndUnlinked) {
  const TestDirectory directory;
  const ProducerSegment producer = make_segment(directory);
  const auto found = list_segments(directory.path(), "default");
  ASSERT_TRUE(found);
  ASSERT_EQ(found->size(), 1u);
  EXPECT_EQ(found->front().trace_id, producer.name().trace_id);
  EXPECT_TRUE(list_segments(directory.path(), "other")->empty());

  auto collector = open_segment(directory, found->front());
  ASSERT_TRUE(collector) << collector.error().message;
  const moetrace_ring_header& header = collector->map().header();
  EXPECT_STREQ(header.model_id, "test/model");
  EXPECT_EQ(header.route_slots, 64u);
  EXPECT_EQ(header.route_stride, 64u);
  EXPECT_GT(header.created_realtime_ns, 1'500'000'000'000'000'000);
  EXPECT_EQ(header.producer_pid, static_cast<std::uint32_t>(::getpid()));
  EXPECT_TRUE(collector->intact());
  collector->unlink();
  EXPECT_TRUE(directory.files().empty());
}

TEST(CollectorSegment, BothSidesSeeTheSameMemory) {
  const TestDirectory directory;
  const ProducerSegment producer = make_segment(directory);
  auto collector = open_segment(directory, producer.name());
  ASSERT_TRUE(collector);
  RingWriter<MappedRing> writer(producer.map().route_ring(), 64);
  RingReader<MappedRing> reader(collector->map().route_ring(), 64);
  EXPECT_FALSE(reader.upper_at(0));
  ASSERT_GE(writer.room(1), 1u);
  writer.commit(writer.claim(1), 7);
  EXPECT_EQ(reader.upper_at(0), 7u);
  reader.publish(1);
  EXPECT_EQ(producer.map().ctl()->route_consumed, 1u);
}

TEST(CollectorSegment, LocksTellWhoLives) {
  const TestDirectory directory;
  auto producer = std::make_unique<ProducerSegment>(make_segment(directory));
  const SegmentName name = producer->name();
  const auto observer = open_segment(directory, name, CollectorSegment::Access::kObserve);
  ASSERT_TRUE(observer);
  EXPECT_TRUE(observer->producer_alive());
  EXPECT_FALSE(observer->collector_alive());
  {
    const auto collector = open_segment(directory, name);
    ASSERT_TRUE(collector);
    EXPECT_TRUE(observer->collector_alive());
    EXPECT_TRUE(collector->collector_alive());
    const auto second = open_segment(directory, name);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, ErrorCode::kInUse);
  }
  EXPECT_FALSE(observer->collector_alive());
  producer->release();
  EXPECT_FALSE(observer->producer_alive());
}

TEST(CollectorSegment, ControlIsLockedByOneAtATime) {
  const TestDirectory directory;
  const ProducerSegment producer = make_segment(directory);
  const auto observer =
      open_segment(directory, producer.name(), CollectorSegment::Access::kObserve);
  ASSERT_TRUE(observer);
  {
    const auto lock = observer->lock_control();
    ASSERT_TRUE(lock);
    const auto second = observer->lock_control();
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, ErrorCode::kInUse);
  }
  EXPECT_TRUE(observer->lock_control());
}

TEST(CollectorSegment, ALinkIsNotFollowed) {
  const TestDirectory directory;
  const ProducerSegment producer = make_segment(directory);
  for (const std::string& file : {producer.name().ring_file(), producer.name().ctl_file()}) {
    const std::string path = directory.file(file);
    ASSERT_EQ(::rename(path.c_str(), (path + ".moved").c_str()), 0);
    ASSERT_EQ(::symlink((path + ".moved").c_str(), path.c_str()), 0);
    EXPECT_FALSE(open_segment(directory, producer.name())) << file;
    EXPECT_FALSE(open_segment(directory, producer.name(), CollectorSegment::Access::kObserve))
        << file;
    ASSERT_EQ(::rename((path + ".moved").c_str(), path.c_str()), 0);
  }
  EXPECT_TRUE(open_segment(directory, producer.name()));
}

TEST(CollectorSegment, CopiesTheLayerTable) {
  const TestDirectory directory;
  moetrace_ring_header header = small_header();
  std::strcpy(header.engine_id, "engine-7");
  std::vector<moetrace_layer_entry> layers(header.num_layers);
  layers[1].top_k = 2;
  layers[1].experts = 6;
  layers[1].flags = MOETRACE_LAYER_ZERO_EXPERTS_KNOWN;
  const auto producer =
      ProducerSegment::create(directory.path(), "default", header, kSmallSizes, layers);
  ASSERT_TRUE(producer) << producer.error().message;
  const auto opened = open_segment(directory, producer->name());
  ASSERT_TRUE(opened) << opened.error().message;
  for (const SegmentMap* map : {&producer->map(), &opened->map()}) {
    EXPECT_STREQ(map->header().engine_id, "engine-7");
    EXPECT_EQ(map->layers().top_k_of(0), 4u);
    EXPECT_EQ(map->layers().top_k_of(1), 2u);
    EXPECT_EQ(map->layers().ids_of(1), 6u);
    EXPECT_TRUE(map->layers().declared());
  }
}

TEST(CollectorSegment, IgnoresWhatAProducerBefore1_3DoesNotHave) {
  const TestDirectory directory;
  const ProducerSegment producer = make_segment(directory);
  const std::string ring = directory.file(producer.name().ring_file());
  patch(ring, offsetof(moetrace_ring_header, abi_minor), std::uint16_t{2});
  patch(ring, offsetof(moetrace_ring_header, engine_id), std::uint64_t{0x4141});
  moetrace_layer_entry entry{};
  entry.top_k = 1;
  patch(ring, producer.map().header().layer_table_offset, entry);
  const auto opened = open_segment(directory, producer.name());
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_STREQ(opened->map().header().engine_id, "");
  EXPECT_FALSE(opened->map().layers().declared());
}

class BadSegment : public ::testing::Test {
 protected:
  void expect(ErrorCode code, const std::string& words) {
    const auto opened = open_segment(directory_, name_);
    ASSERT_FALSE(opened) << words;
    EXPECT_EQ(opened.error().code, code) << opened.error().message;
    EXPECT_NE(opened.error().message.find(words), std::string::npos) << opened.error().message;
    EXPECT_EQ(opened.error().message.find('\n'), std::string::npos);
  }
  std::string ring() const { return directory_.file(name_.ring_file()); }
  std::string ctl() const { return directory_.file(name_.ctl_file()); }

  TestDirectory directory_;
  ProducerSegment producer_ = make_segment(directory_);
  SegmentName name_ = producer_.name();
};

TEST_F(BadSegment, OfAnotherAbiVersion) {
  patch(ring(), offsetof(moetrace_ring_header, abi_major), std::uint16_t{2});
  expect(ErrorCode::kWrongVersion, "ABI version 2, this program supports version 1");
}

TEST_F(BadSegment, ANewerMinorVersionIsWelcome) {
  patch(ring(), offsetof(moetrace_ring_header, abi_minor), std::uint16_t{9});
  EXPECT_TRUE(open_segment(directory_, name_));
}

TEST_F(BadSegment, WithAHostileLayerTable) {
  const std::uint64_t table = producer_.map().header().layer_table_offset;
  moetrace_layer_entry entry{};
  entry.top_k = 5;
  patch(ring(), table + 2 * sizeof entry, entry);
  expect(ErrorCode::kBadSegment, "layer table, layer 2: top_k is 5; expected at most 4");
  entry.top_k = 4;
  std::memset(entry.score, 'x', sizeof entry.score);
  patch(ring(), table + 2 * sizeof entry, entry);
  const auto opened = open_segment(directory_, name_);
  ASSERT_TRUE(opened) << opened.error().message;
  EXPECT_EQ(std::strlen(opened->map().layers().entry(2).score), sizeof entry.score - 1);
}

TEST_F(BadSegment, NotARing) {
  patch(ring(), 0, std::uint64_t{0});
  expect(ErrorCode::kBadSegment, "not a moetrace ring");
}

TEST_F(BadSegment, WithATruncatedRing) {
  ASSERT_EQ(::truncate(ring().c_str(), 100), 0);
  expect(ErrorCode::kBadSegment, "shorter than a header");
  ASSERT_EQ(::truncate(ring().c_str(), 4096), 0);
  expect(ErrorCode::kBadSegment, "its header states");
}

TEST_F(BadSegment, ThatLostItsLastPage) {
  const auto bytes = static_cast<off_t>(producer_.map().header().ring_bytes);
  ASSERT_EQ(::truncate(ring().c_str(), bytes - 4096), 0);
  expect(ErrorCode::kBadSegment, "its header states");
}

TEST_F(BadSegment, WithTheTraceIdOfAnother) {
  patch(ring(), offsetof(moetrace_ring_header, trace_id), std::uint64_t{0x1234});
  expect(ErrorCode::kBadSegment, "another trace id than its name");
}

TEST_F(BadSegment, WithTheCtlOfAnother) {
  const ProducerSegment other = make_segment(directory_);
  ASSERT_EQ(::rename(directory_.file(other.name().ctl_file()).c_str(), ctl().c_str()), 0);
  expect(ErrorCode::kBadSegment, "does not belong to its .ring");
}

TEST_F(BadSegment, WithATruncatedCtl) {
  ASSERT_EQ(::truncate(ctl().c_str(), 4095), 0);
  expect(ErrorCode::kBadSegment, "has the wrong size");
}

TEST_F(BadSegment, WithoutItsFiles) {
  ASSERT_EQ(::unlink(ring().c_str()), 0);
  expect(ErrorCode::kNotFound, name_.ring_file());
  ASSERT_EQ(::unlink(ctl().c_str()), 0);
  expect(ErrorCode::kNotFound, name_.ctl_file());
}

TEST_F(BadSegment, WhoseRingIsADirectory) {
  ASSERT_EQ(::unlink(ring().c_str()), 0);
  ASSERT_EQ(::mkdir(ring().c_str(), 0700), 0);
  expect(ErrorCode::kBadSegment, "shorter than a header");
}

}  // namespace
}  // namespace moetrace
