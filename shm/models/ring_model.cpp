// All interleavings of the real RingWriter and RingReader, on a ring of two slots: three records
// make it wrap. The payload is an rl::var, so relacy reports a race if a slot is read before it is
// complete, or overwritten while it is read.
#include "shm/models/relacy_memory.hpp"

namespace {

constexpr std::uint8_t kCapacity = 2;
constexpr std::uint8_t kRecords = 3;
// Each side looks this often for its next slot, then gives up, because neither side waits.
constexpr int kTries = 2;

struct Storage {
  rl::atomic<std::uint64_t> commit[kCapacity];
  rl::atomic<std::uint64_t> consumed;
  rl::var<int> payload[kCapacity];
};

struct Memory {
  using Index = std::uint8_t;
  using Seq = std::uint8_t;
  Storage* storage;

  model::Cell commit_cell(Index slot) const {
    return {&storage->commit[slot], "upper_at", "commit"};
  }
  model::Cell consumed_cell() const { return {&storage->consumed, "room", "publish"}; }
};

struct RingModel : rl::test_suite<RingModel, 2> {
  Storage storage;

  void before() {
    for (auto& word : storage.commit) word($).store(0, rl::mo_relaxed);
    storage.consumed($).store(0, rl::mo_relaxed);
  }

  void thread(unsigned id) {
    if (id == 0) {
      write();
    } else {
      read();
    }
  }

  void write() {
    moetrace::RingWriter<Memory> writer(Memory{&storage}, kCapacity);
    for (int tries = kRecords + kTries; tries > 0 && writer.position() < kRecords; --tries) {
      if (writer.room(1) < 1) continue;
      const std::uint8_t position = writer.claim(1);
      storage.payload[position % kCapacity]($) = 100 + position;
      writer.commit(position, 200u + position);
    }
  }

  void read() {
    moetrace::RingReader<Memory> reader(Memory{&storage}, kCapacity);
    std::uint8_t position = 0;
    for (int tries = kRecords + kTries; tries > 0 && position < kRecords; --tries) {
      const std::optional<std::uint32_t> upper = reader.upper_at(position);
      if (!upper) continue;
      RL_ASSERT(*upper == 200u + position);
      RL_ASSERT(storage.payload[position % kCapacity]($) == 100 + position);
      reader.publish(++position);
    }
  }
};

}  // namespace

int main(int argc, char** argv) {
  return model::run<RingModel>(argc, argv);
}
