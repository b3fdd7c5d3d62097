// Small real segments with random changes, as a broken or hostile producer might make them. The
// trace of each must end, and `moetrace verify` must accept it.
#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "daemon/collector/test_trace.hpp"
#include "trace/verify_files.hpp"

namespace moetrace {
namespace {

using State = SegmentDrain::State;

constexpr int kSegments = 2000;

// The segment of a producer that recorded a few passes of three requests. `late`: a collector
// drained the first of them, and its file is lost.
SegmentName leave_segment(const TestDirectory& directory, bool late) {
  const auto producer = *RingProducer::open(test_settings(directory));
  RequestTable& requests = producer->requests();
  const std::uint64_t a = requests.begin("alpha", 3, 0), b = requests.begin("beta \"b\"", 9, 1);
  run_step(*producer, a, 0, 3);
  const moetrace_span spans[] = {{a, 3, 0, 1}, {b, MOETRACE_UNKNOWN_POSITION, 1, 2}, {b, 7, 3, 1}};
  const std::vector<std::int32_t> ids(8, 3);
  producer->begin_step(4, spans);
  for (std::uint32_t layer = 0; layer < kTestLayers; ++layer)
    producer->hook().record(layer, ids.data(), MOETRACE_INT32, nullptr, MOETRACE_FLOAT32, 4);
  if (late) {
    const std::string path = directory.file("first.jsonl");
    drain(**attach(directory, producer->name(), path)).value();
    std::filesystem::remove(path);
  }
  requests.end(a, 4, "stop");
  write_control(producer->map(), {true, 0, first_layers(1)});
  run_step(*producer, b, 8, 2);
  write_control(producer->map(), {true, 1, first_layers(kTestLayers)});
  // Its last layer fails.
  run_step(*producer, b, 10, 5, 1);
  run_step(*producer, requests.begin(std::string(200, 'c'), 1, 0), 0, 5);
  return producer->name();
}

class Attack {
 public:
  // `table`: change the request table, too.
  Attack(const TestDirectory& directory, const SegmentName& name, bool table, unsigned seed)
      : segment_(
            *CollectorSegment::open(directory.path(), name, CollectorSegment::Access::kObserve)),
        ring_(open_for_writing(directory.file(name.ring_file()))),
        table_(table),
        random_(seed) {}

  void change() {
    switch (random_() % 6) {
      case 0:
        // The host counters.
        return change_word(header().state_offset, 6 * 8);
      case 1:
        // The snapshots and the published position.
        return change_word(header().state_offset + 64, 4 * 64);
      case 2:
        if (table_) change_word(header().request_offset, 4 * sizeof(moetrace_request_entry));
        return;
      case 3:
        return change_slot(header().event_offset, 64, 24);
      case 4:
        return change_slot(header().route_offset, header().route_stride,
                           segment_.map().route_layout().weights_offset());
      default:
        return change_ctl();
    }
  }
  std::uint64_t number(std::uint64_t below) { return random_() % below; }
  void close() { put(header().state_offset + offsetof(moetrace_host_counters, closed), 1); }

 private:
  static std::unique_ptr<std::FILE, int (*)(std::FILE*)> open_for_writing(const std::string& path) {
    return {std::fopen(path.c_str(), "r+b"), &std::fclose};
  }
  const moetrace_ring_header& header() const { return segment_.map().header(); }

  template <class T>
  void put(std::uint64_t offset, T value) {
    std::fseek(ring_.get(), static_cast<long>(offset), SEEK_SET);
    std::fwrite(&value, sizeof value, 1, ring_.get());
    std::fflush(ring_.get());
  }
  std::uint64_t get(std::uint64_t offset) const {
    std::uint64_t word;
    std::memcpy(&word, static_cast<const char*>(segment_.map().ring_address()) + offset,
                sizeof word);
    return word;
  }

  std::uint64_t changed(std::uint64_t word) {
    switch (random_() % 7) {
      case 0:
        return word + 1 + random_() % 3;
      case 1:
        return word - 1 - random_() % 3;
      case 2:
        return word ^ std::uint64_t{1} << random_() % 64;
      case 3:
        return random_() % 70;
      case 4:
        return ~std::uint64_t{0} >> random_() % 64;
      case 5:
        return word + ((std::uint64_t{1} + random_() % 3) << 32);
      default:
        return std::uint64_t{random_()} << 32 | random_();
    }
  }
  void change_word(std::uint64_t offset, std::uint64_t bytes) {
    offset += random_() % (bytes / 8) * 8;
    put(offset, changed(get(offset)));
  }
  // Changes a payload, or copies that of another slot; most of these slots stay valid.
  void change_slot(std::uint64_t ring, std::uint64_t stride, std::uint64_t used) {
    const std::uint64_t slot = ring + random_() % used * stride;
    const std::uint64_t word = random_() % 8;
    if (random_() % 8 == 0) return put(slot, changed(get(slot)));
    if (random_() % 4 == 0) {
      const std::uint64_t other = ring + random_() % used * stride;
      put(slot + 4, static_cast<std::uint32_t>(get(other) >> 32));
      for (std::uint64_t w = 8; w < stride; w += 8) put(slot + w, get(other + w));
      return;
    }
    if (word > 0) put(slot + 8 * word, changed(get(slot + 8 * word)));
  }
  void change_ctl() {
    constexpr std::size_t kWords[] = {8, 16, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43};
    auto* words = reinterpret_cast<std::uint64_t*>(segment_.map().ctl());
    std::uint64_t& word = words[kWords[random_() % std::size(kWords)]];
    word = changed(word);
  }

  CollectorSegment segment_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> ring_;
  bool table_;
  std::mt19937 random_;
};

// Drains the changed segment, with more changes meanwhile. Returns whether the trace has ended, and
// how. Either other collectors continue after the first one, or the request table is changed, never
// both: a new collector takes the names of live requests from the table, and they may differ from
// those in its file.
std::string end_of_trace(const TestDirectory& directory, const SegmentName& name, unsigned seed) {
  const std::string path = directory.file("trace.jsonl");
  moetrace_layer_mask only_second{};
  add_layer(only_second, 1);
  const bool table = seed % 4 == 0;
  Attack attack(directory, name, table, seed);
  const auto filter = attack.number(4) == 0 ? only_second : kEveryLayer;
  // The producer is alive.
  auto lock = FileLock::acquire(directory.file(name.ctl_file()), MOETRACE_LOCK_PRODUCER);
  for (std::uint64_t n = 1 + attack.number(4); n > 0; --n) attack.change();
  std::uint64_t live_passes = attack.number(8);
  for (int collectors = 0; collectors < 8; ++collectors) {
    auto drain = attach(directory, name, path, filter);
    if (!drain) return drain.error().code == ErrorCode::kBadSegment ? "bad" : "refused";
    for (int passes = 0; passes < 400; ++passes) {
      const auto state = (*drain)->pass();
      if (!state) return "bad";
      if (*state == State::kEnded) return "ended";
      if (*state == State::kSyncing) (*drain)->wait_for_disk();
      if (live_passes > 0) {
        if (--live_passes == 0) {
          attack.close();
          lock->release();
        }
        if (attack.number(3) == 0) attack.change();
        // The next collector continues.
        if (!table && attack.number(6) == 0) break;
      } else if (lock->held()) {
        attack.close();
        lock->release();
      }
    }
  }
  return "not ended";
}

TEST(HostileSegment, TraceEndsAndIsVerified) {
  TestDirectory originals[2];
  const SegmentName names[2] = {leave_segment(originals[0], false),
                                leave_segment(originals[1], true)};
  std::map<std::string, int> ends;
  for (unsigned seed = 0; seed < kSegments; ++seed) {
    TestDirectory directory;
    const TestDirectory& original = originals[seed / 4 % 2];
    const SegmentName& name = names[seed / 4 % 2];
    for (const std::string& file : {name.ring_file(), name.ctl_file()})
      std::filesystem::copy_file(original.file(file), directory.file(file));
    const std::string end = end_of_trace(directory, name, seed);
    ++ends[end];
    // A changed consumed position makes the file look cut: then the trace continues in another
    // file, and only that file ends.
    std::string path = directory.file("trace.jsonl");
    for (int part = 2;
         std::filesystem::exists(directory.file("trace." + std::to_string(part) + ".jsonl"));
         ++part)
      path = directory.file("trace." + std::to_string(part) + ".jsonl");
    const auto verified = trace::verify_trace(path);
    ASSERT_TRUE(verified) << "seed " << seed << ", " << end << ": " << verified.error().message;
    EXPECT_EQ(verified->status == kBadSegmentEnd, end == "bad") << "seed " << seed << ", " << end;
  }
  // The test must see harmless changes and changes that end the trace.
  EXPECT_GT(ends["ended"], kSegments / 20);
  EXPECT_GT(ends["bad"], kSegments / 20);
  EXPECT_GT(ends["ended"] + ends["bad"], kSegments * 99 / 100);
}

}  // namespace
}  // namespace moetrace
