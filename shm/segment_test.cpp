#include "shm/segment.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <optional>

#include "shm/session_claim.hpp"
#include "shm/system_error.hpp"
#include "shm/test_directory.hpp"

namespace moetrace {
namespace {

ProducerSegment make(const TestDirectory& directory, const SegmentSizes& sizes = kSmallSizes) {
  auto made = ProducerSegment::create(directory.path(), "default", small_header(), sizes);
  if (!made) throw std::runtime_error(made.error().message);
  return std::move(*made);
}

mode_t mode_of(const std::string& path) {
  struct stat status {};
  EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
  return status.st_mode & 07777;
}

// Overwrites `bytes` of a file.
template <class T>
void patch(const std::string& path, std::size_t offset, const T& value) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(offset));
  file.write(reinterpret_cast<const char*>(&value), sizeof value);
  ASSERT_TRUE(file.flush()) << path;
}

Result<CollectorSegment> open(
    const TestDirectory& directory, const SegmentName& name,
    CollectorSegment::Access access = CollectorSegment::Access::kCollect) {
  return CollectorSegment::open(directory.path(), name, access);
}

std::int64_t page_faults() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_minflt;
}

// What a thread sanitizer keeps of each byte has pages of its own.
__attribute__((no_sanitize("thread"))) void write_pages(volatile std::byte* bytes,
                                                        std::size_t pages) {
  for (std::size_t page = 0; page < pages; ++page) bytes[page * 4096] = std::byte{1};
}

TEST(Segment, WritingItTakesNoPageFaults) {
  const TestDirectory directory;
  const ProducerSegment producer = make(directory, {1 << 14, 64, 4});
  auto* bytes = static_cast<volatile std::byte*>(producer.map().ring_address());
  const std::size_t pages = producer.map().ring_bytes() / 4096;
  ASSERT_GT(pages, 256u);
  if (::madvise(producer.map().ring_address(), 4096, MADV_POPULATE_WRITE) != 0)
    GTEST_SKIP() << "a kernel before 5.14";
  const std::int64_t before = page_faults();
  write_pages(bytes, pages);
  EXPECT_LT(page_faults() - before, static_cast<std::int64_t>(pages / 4));
}

TEST(Segment, IsFoundOpenedAndUnlinked) {
  const TestDirectory directory;
  const ProducerSegment producer = make(directory);
  const auto found = list_segments(directory.path(), "default");
  ASSERT_TRUE(found);
  ASSERT_EQ(found->size(), 1u);
  EXPECT_EQ(found->front().trace_id, producer.name().trace_id);
  EXPECT_TRUE(list_segments(directory.path(), "other")->empty());

  auto collector = open(directory, found->front());
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

TEST(Segment, BothSidesSeeTheSameMemory) {
  const TestDirectory directory;
  const ProducerSegment producer = make(directory);
  auto collector = open(directory, producer.name());
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

// Modes of .ring and .ctl, and of a collector's claim, under a umask that allows all or nothing.
void expect_modes(const TestDirectory& directory, mode_t ring, mode_t ctl,
                  std::optional<gid_t> group = std::nullopt) {
  for (const mode_t mask : {077, 0}) {
    const mode_t before = ::umask(mask);
    const ProducerSegment producer = make(directory);
    const auto claim = SessionClaim::take(directory.path(), "default");
    ::umask(before);
    const std::string ring_path = directory.file(producer.name().ring_file());
    const std::string ctl_path = directory.file(producer.name().ctl_file());
    const std::string claim_path =
        directory.file("moetrace.v1.default." + std::to_string(::geteuid()) + ".collector");
    EXPECT_EQ(mode_of(ring_path), ring);
    EXPECT_EQ(mode_of(ctl_path), ctl);
    EXPECT_EQ(mode_of(claim_path), ctl);
    for (const std::string& path : {ring_path, ctl_path, claim_path}) {
      struct stat status {};
      ASSERT_EQ(::stat(path.c_str(), &status), 0) << path;
      EXPECT_EQ(status.st_gid, group.value_or(::getegid())) << path;
    }
  }
}

TEST(Segment, IsPrivate) {
  const TestDirectory directory;
  expect_modes(directory, 0600, 0600);
}

TEST(Segment, BelongsToTheGroupOfASetGroupIdDirectory) {
  const TestDirectory directory;
  gid_t group = ::getegid();
  if (::geteuid() == 0) group = 64003;
  ASSERT_EQ(::chown(directory.path().c_str(), static_cast<uid_t>(-1), group), 0);
  ASSERT_EQ(::chmod(directory.path().c_str(), 02770), 0);
  expect_modes(directory, 0640, 0660, group);
}

TEST(Segment, BelongsToTheGroupThatIsNamed) {
  const TestDirectory directory;
  ::setenv("MOETRACE_GROUP", std::to_string(::getegid()).c_str(), 1);
  expect_modes(directory, 0640, 0660);
  ::setenv("MOETRACE_GROUP", "no-such-group", 1);
  expect_modes(directory, 0600, 0600);
  if (::geteuid() == 0) {
    ::setenv("MOETRACE_GROUP", "64003", 1);
    expect_modes(directory, 0640, 0660, 64003);
  }
  ::unsetenv("MOETRACE_GROUP");
}

// Mapping goes through no path, so it needs neither /proc nor the name.
TEST(Segment, WrongLimitsAreNamed) {
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

TEST(Segment, ErrorsOfTheSystemSayWhatToTry) {
  const auto said = [](int number, RingFile file) {
    return system_error("x", "can't open it", number, file).message;
  };
  for (const RingFile file : {RingFile::kOwn, RingFile::kOther}) {
    EXPECT_NE(said(ENOMEM, file).find("ulimit -v"), std::string::npos);
    EXPECT_NE(said(EAGAIN, file).find("ulimit -l"), std::string::npos);
    EXPECT_NE(said(EMFILE, file).find("ulimit -n"), std::string::npos);
    EXPECT_NE(said(ENFILE, file).find("fs.file-max"), std::string::npos);
    EXPECT_NE(said(EOPNOTSUPP, file).find("local tmpfs"), std::string::npos);
  }
  EXPECT_NE(said(EACCES, RingFile::kOther).find("MOETRACE_GROUP"), std::string::npos);
  EXPECT_NE(said(EACCES, RingFile::kOwn).find("MOETRACE_DIR"), std::string::npos);
}

TEST(Segment, EveryPageIsAllocatedFromTheStart) {
  const TestDirectory directory;
  const ProducerSegment producer = make(directory);
  struct stat status {};
  ASSERT_EQ(::stat(directory.file(producer.name().ring_file()).c_str(), &status), 0);
  EXPECT_GE(status.st_blocks * 512, status.st_size);
  EXPECT_EQ(static_cast<std::uint64_t>(status.st_size), producer.map().header().ring_bytes);
}

TEST(Segment, LocksTellWhoLives) {
  const TestDirectory directory;
  auto producer = std::make_unique<ProducerSegment>(make(directory));
  const SegmentName name = producer->name();
  const auto observer = open(directory, name, CollectorSegment::Access::kObserve);
  ASSERT_TRUE(observer);
  EXPECT_TRUE(observer->producer_alive());
  EXPECT_FALSE(observer->collector_alive());
  {
    const auto collector = open(directory, name);
    ASSERT_TRUE(collector);
    EXPECT_TRUE(observer->collector_alive());
    EXPECT_TRUE(collector->collector_alive());
    const auto second = open(directory, name);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, ErrorCode::kInUse);
  }
  EXPECT_FALSE(observer->collector_alive());
  producer->release();
  EXPECT_FALSE(observer->producer_alive());
}

bool is_mapped(const void* page) {
  unsigned char resident;
  return ::mincore(const_cast<void*>(page), 1, &resident) == 0;
}

TEST(Segment, OnlyAGpusMappingsStayAfterClose) {
  const TestDirectory directory;
  for (const bool gpu : {true, false}) {
    moetrace_ring_header header = small_header();
    header.claimer = gpu ? MOETRACE_CLAIMER_GPU : MOETRACE_CLAIMER_CPU;
    const void* parts[3];
    {
      const auto producer =
          ProducerSegment::create(directory.path(), "default", header, kSmallSizes);
      ASSERT_TRUE(producer);
      const SegmentMap& map = producer->map();
      parts[0] = map.state();
      parts[1] = map.counts();
      parts[2] = map.ctl();
      for (const void* part : parts) ASSERT_TRUE(is_mapped(part));
    }
    // Captured CUDA graphs hold a GPU's addresses; a CPU's pages would be held by nobody but us.
    for (const void* part : parts) EXPECT_EQ(is_mapped(part), gpu);
  }
}

TEST(Segment, ControlIsLockedByOneAtATime) {
  const TestDirectory directory;
  const ProducerSegment producer = make(directory);
  const auto observer = open(directory, producer.name(), CollectorSegment::Access::kObserve);
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

TEST(Segment, ControlWordsAreReadAsTheyWereWritten) {
  const TestDirectory directory;
  const ProducerSegment producer = make(directory);
  const auto first = read_control(producer.map());
  ASSERT_TRUE(first);
  EXPECT_EQ(first->second, (ControlWords{true, 1, small_header().layers_logged}));
  const ControlWords changed{false, 0xFFFFFFFF, {{1, 2, 3, 4}}};
  write_control(producer.map(), changed);
  const auto second = read_control(producer.map());
  ASSERT_TRUE(second);
  EXPECT_GT(second->first, first->first);
  EXPECT_EQ(second->second, changed);
  producer.map().ctl()->control.version |= 1;  // a writer that died
  EXPECT_FALSE(read_control(producer.map()));
  write_control(producer.map(), changed);  // the next one takes over
  EXPECT_TRUE(read_control(producer.map()));
}

// A CPU's slots speak for themselves; of a GPU's, which carry their number before they are whole,
// only the published ones count, whatever a hostile producer publishes.
TEST(Segment, AGpusRoutesAreValidUpToWhatItPublished) {
  for (const std::uint32_t claimer : {MOETRACE_CLAIMER_CPU, MOETRACE_CLAIMER_GPU}) {
    const TestDirectory directory;
    moetrace_ring_header header = small_header();
    header.claimer = claimer;
    auto producer = ProducerSegment::create(directory.path(), "default", header, kSmallSizes);
    ASSERT_TRUE(producer);
    const SegmentMap& map = producer->map();
    RingWriter<MappedRing> writer(map.route_ring(), map.header().route_slots);
    for (int n = 0; n < 10; ++n) writer.commit(writer.claim(1), 0);
    const RingReader<MappedRing> reader(map.route_ring(), map.header().route_slots);
    const bool gpu = claimer == MOETRACE_CLAIMER_GPU;
    for (const std::uint64_t published : {std::uint64_t{0}, std::uint64_t{7}, ~std::uint64_t{0}}) {
      map.state()->published.routes = published;
      EXPECT_EQ(valid_routes_end(map, reader, 0, 64),
                gpu ? std::min<std::uint64_t>(published, 10) : 10);
      EXPECT_EQ(valid_routes_end(map, reader, 8, 1), gpu && published < 9 ? 8u : 9u);
    }
  }
}

TEST(Segment, CutFilesAreNoticedWhileOpen) {
  for (const bool cut_ring : {true, false}) {
    const TestDirectory directory;
    const ProducerSegment producer = make(directory);
    const auto collector = open(directory, producer.name());
    ASSERT_TRUE(collector);
    const std::string path =
        directory.file(cut_ring ? producer.name().ring_file() : producer.name().ctl_file());
    ASSERT_EQ(::truncate(path.c_str(), 100), 0);
    EXPECT_FALSE(collector->intact()) << path;
  }
}

TEST(Segment, CutPagesAreZerosAndNoSignal) {
  const TestDirectory directory;
  const ProducerSegment producer = make(directory);
  std::optional<CollectorSegment> collector = std::move(*open(directory, producer.name()));
  const auto neighbour = open(directory, producer.name(), CollectorSegment::Access::kObserve);
  ASSERT_TRUE(neighbour);
  const std::string ring = directory.file(producer.name().ring_file());
  const std::size_t bytes = collector->map().header().ring_bytes;
  ASSERT_EQ(::truncate(ring.c_str(), 8192), 0);
  const auto* first = reinterpret_cast<const volatile unsigned char*>(collector->map().state()) -
                      collector->map().header().state_offset;
  EXPECT_EQ(first[0], 'M');
  EXPECT_EQ(first[8192], 0);
  EXPECT_EQ(first[bytes - 1], 0);
  // Made whole again, what was read stays suspect; who has not touched it is none the worse.
  ASSERT_EQ(::truncate(ring.c_str(), static_cast<off_t>(bytes)), 0);
  EXPECT_FALSE(collector->intact());
  EXPECT_TRUE(neighbour->intact());
  collector.reset();
  for (int n = 0; n < 1'000; ++n)  // an entry of the table is given back
    ASSERT_TRUE(open(directory, producer.name(), CollectorSegment::Access::kObserve));
  EXPECT_EXIT(
      {
        const int fd = ::open(ring.c_str(), O_RDONLY | O_CLOEXEC);
        const auto* page = static_cast<const volatile unsigned char*>(
            ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0));
        if (::truncate(ring.c_str(), 0) == 0) std::exit(page[0]);
      },
      ::testing::KilledBySignal(SIGBUS), "");
}

TEST(Segment, ALinkIsNotFollowed) {
  const TestDirectory directory;
  const ProducerSegment producer = make(directory);
  for (const std::string& file : {producer.name().ring_file(), producer.name().ctl_file()}) {
    const std::string path = directory.file(file);
    ASSERT_EQ(::rename(path.c_str(), (path + ".moved").c_str()), 0);
    ASSERT_EQ(::symlink((path + ".moved").c_str(), path.c_str()), 0);
    EXPECT_FALSE(open(directory, producer.name())) << file;
    EXPECT_FALSE(open(directory, producer.name(), CollectorSegment::Access::kObserve)) << file;
    ASSERT_EQ(::rename((path + ".moved").c_str(), path.c_str()), 0);
  }
  EXPECT_TRUE(open(directory, producer.name()));
}

// ---- what can't be opened

class BadSegment : public ::testing::Test {
 protected:
  void expect(ErrorCode code, const std::string& words) {
    const auto opened = open(directory_, name_);
    ASSERT_FALSE(opened) << words;
    EXPECT_EQ(opened.error().code, code) << opened.error().message;
    EXPECT_NE(opened.error().message.find(words), std::string::npos) << opened.error().message;
    EXPECT_EQ(opened.error().message.find('\n'), std::string::npos);
  }
  std::string ring() const { return directory_.file(name_.ring_file()); }
  std::string ctl() const { return directory_.file(name_.ctl_file()); }

  TestDirectory directory_;
  ProducerSegment producer_ = make(directory_);
  SegmentName name_ = producer_.name();
};

TEST_F(BadSegment, OfAnotherAbiVersion) {
  patch(ring(), offsetof(moetrace_ring_header, abi_major), std::uint16_t{2});
  expect(ErrorCode::kWrongVersion, "ABI version 2, this program speaks version 1");
}

TEST_F(BadSegment, ANewerMinorVersionIsWelcome) {
  patch(ring(), offsetof(moetrace_ring_header, abi_minor), std::uint16_t{9});
  EXPECT_TRUE(open(directory_, name_));
}

TEST_F(BadSegment, OfAMinorVersionThatDoesNotSayItsCost) {
  producer_.map().state()->host.announce_ns = 5;
  producer_.map().state()->host.hook_ns = UINT64_MAX;
  const auto said = read_cost(open(directory_, name_)->map());
  ASSERT_TRUE(said);
  EXPECT_EQ(said->announce_ns, 5u);
  EXPECT_EQ(said->hook_ns, UINT64_MAX);
  patch(ring(), offsetof(moetrace_ring_header, abi_minor), std::uint16_t{1});
  EXPECT_FALSE(read_cost(open(directory_, name_)->map()));
}

TEST_F(BadSegment, NotARing) {
  patch(ring(), 0, std::uint64_t{0});
  expect(ErrorCode::kBadSegment, "not a moetrace ring");
}

TEST_F(BadSegment, WithATruncatedRing) {
  ASSERT_EQ(::truncate(ring().c_str(), 100), 0);
  expect(ErrorCode::kBadSegment, "shorter than a header");
  ASSERT_EQ(::truncate(ring().c_str(), 4096), 0);
  expect(ErrorCode::kBadSegment, "says that it has");
}

TEST_F(BadSegment, ThatLostItsLastPage) {
  const auto bytes = static_cast<off_t>(producer_.map().header().ring_bytes);
  ASSERT_EQ(::truncate(ring().c_str(), bytes - 4096), 0);
  expect(ErrorCode::kBadSegment, "says that it has");
}

TEST_F(BadSegment, WithTheTraceIdOfAnother) {
  patch(ring(), offsetof(moetrace_ring_header, trace_id), std::uint64_t{0x1234});
  expect(ErrorCode::kBadSegment, "another trace id than its name");
}

TEST_F(BadSegment, WithTheCtlOfAnother) {
  const ProducerSegment other = make(directory_);
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

// ---- what can't be created

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

TEST(SegmentCreation, WithoutTheRightToWrite) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write everywhere";
  const TestDirectory directory;
  ASSERT_EQ(::chmod(directory.path().c_str(), 0500), 0);
  expect_not_created(directory.path(), kSmallSizes, ErrorCode::kPermission, "MOETRACE_DIR");
  ASSERT_EQ(::chmod(directory.path().c_str(), 0700), 0);
}

}  // namespace
}  // namespace moetrace
