// This ring: RingWriter and RingReader on 65,536 slots of 64 bytes.
#include <cstring>

#include "producer/peers/harness.hpp"
#include "shm/ring.hpp"

namespace moetrace::peers {
namespace {

struct Memory {
  alignas(64) std::byte slots[kCapacity * sizeof(Record)];
  alignas(64) std::uint64_t consumed;
};

class RingPeer {
 public:
  static constexpr std::uint64_t kBurst = kCapacity / 2;
  static constexpr bool kLive = true;

  explicit RingPeer(const Options&) {}

  void open_writer() {}
  void close_writer() {}
  bool send(const Record& record) {
    if (writer_.room(1) == 0) return false;
    const std::uint64_t position = writer_.claim(1);
    std::byte* slot = writer_.memory().slot(position);
    std::memcpy(slot + kWord, reinterpret_cast<const std::byte*>(&record) + kWord,
                sizeof record - kWord);
    RingWriter<MappedRing>::commit_cell(MappedRing::cell_of(slot), position, 0);
    return true;
  }

  // A new reader goes on where the last one has published.
  void open_reader() { reader_ = RingReader<MappedRing>(ring_, kCapacity, memory_->consumed); }
  void read(Checker& checker) {
    const std::uint64_t end = reader_.valid_end(reader_.published(), kBlock);
    Record record;
    for (std::uint64_t n = reader_.published(); n != end; ++n) {
      std::memcpy(&record, reader_.memory().slot(n), sizeof record);
      checker.add(record);
    }
    reader_.publish(end);
  }

 private:
  static constexpr std::size_t kWord = sizeof(std::uint64_t);  // the commit word

  Shared<Memory> memory_;
  MappedRing ring_{memory_->slots, sizeof(Record), kCapacity, &memory_->consumed};
  RingWriter<MappedRing> writer_{ring_, kCapacity};
  RingReader<MappedRing> reader_{ring_, kCapacity};
};

}  // namespace

Result run_ring(const Options& options) {
  return run<RingPeer>(options);
}

}  // namespace moetrace::peers
