// One single-producer, single-consumer ring over raw memory, whose slots carry their own commit
// word.
//
// A slot's life:   free ──claim──► being written ──commit──► valid ──consume──► free
//                        writer                   writer           reader
// Only the named party takes an edge. The writer may claim slot n only while n - consumed <
// capacity; the reader takes slot n only when its commit word carries n + 1. Nobody waits for
// anybody.
//
// The templates take a Memory, so that the same code runs on a mapped file, on uint8_t indices
// (wrap-around after 256 slots) and under a model checker. Memory gives
//   Index, Seq                    unsigned types of slot numbers and of the sequence part of the
//   commit word commit_cell(Index slot)       the commit word of a slot; .load(order) and
//   .store(value, order) of a 64-bit word consumed_cell()               the consumed position,
//   likewise
// The payload is the caller's: it is written before commit() and read after upper_at() has said
// yes, with plain accesses.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>

namespace moetrace {

static_assert(std::endian::native == std::endian::little, "seq is the low half of the commit word");

// A naturally aligned 64-bit word in shared memory.
class SharedWord {
 public:
  explicit SharedWord(std::uint64_t* word) : word_(word) {}
  std::uint64_t load(std::memory_order order) const {
    return std::atomic_ref<std::uint64_t>(*word_).load(order);
  }
  void store(std::uint64_t value, std::memory_order order) const {
    std::atomic_ref<std::uint64_t>(*word_).store(value, order);
  }

 private:
  static_assert(std::atomic_ref<std::uint64_t>::is_always_lock_free,
                "a lock would live in one process only");
  std::uint64_t* word_;
};

// The Memory of a mapped ring: slots of `stride` bytes whose first 8 bytes are the commit word.
class MappedRing {
 public:
  using Index = std::uint64_t;
  using Seq = std::uint32_t;

  MappedRing(void* slots, std::size_t stride, Index capacity, std::uint64_t* consumed)
      : slots_(static_cast<std::byte*>(slots)),
        stride_(stride),
        mask_(capacity - 1),
        consumed_(consumed) {}

  std::byte* slot(Index position) const { return slots_ + (position & mask_) * stride_; }
  SharedWord commit_cell(Index slot_index) const { return cell_of(slots_ + slot_index * stride_); }
  // The commit word of the slot that begins here.
  static SharedWord cell_of(std::byte* slot) {
    return SharedWord(reinterpret_cast<std::uint64_t*>(slot));
  }
  SharedWord consumed_cell() const { return SharedWord(consumed_); }

 private:
  std::byte* slots_;
  std::size_t stride_;
  Index mask_;
  std::uint64_t* consumed_;
};

// {seq, upper} as the one word that makes a slot valid.
template <class Index, class Seq>
constexpr std::uint64_t commit_word(Index position, std::uint32_t upper) {
  return static_cast<std::uint64_t>(static_cast<Seq>(position + 1)) | std::uint64_t{upper} << 32;
}

template <class Memory>
class RingWriter {
 public:
  using Index = typename Memory::Index;
  using Seq = typename Memory::Seq;

  // `capacity` is a power of two, at most half of what Index and Seq can count.
  RingWriter(Memory memory, Index capacity) : memory_(memory), capacity_(capacity) {}

  const Memory& memory() const { return memory_; }
  Index position() const { return position_; }

  // How many slots could be claimed now, as far as is needed to know that it is at least `wanted`.
  Index room(Index wanted) {
    Index free_slots = static_cast<Index>(capacity_ - static_cast<Index>(position_ - consumed_));
    if (free_slots >= wanted) return free_slots;
    // acquire: synchronizes with the release store in RingReader::publish, so the reader is done
    // with every slot below `seen` before we write into it again.
    const Index seen = static_cast<Index>(memory_.consumed_cell().load(std::memory_order_acquire));
    // The other side is not trusted: only a value between the last one and what has been claimed
    // can be true.
    if (static_cast<Index>(seen - consumed_) <= static_cast<Index>(position_ - consumed_))
      consumed_ = seen;
    return static_cast<Index>(capacity_ - static_cast<Index>(position_ - consumed_));
  }

  // Takes the next `count` slots, which room() has granted, and returns the first one's number.
  Index claim(Index count) {
    const Index first = position_;
    position_ = static_cast<Index>(position_ + count);
    return first;
  }

  // The slot's payload is complete.
  void commit(Index position, std::uint32_t upper) {
    commit_cell(memory_.commit_cell(static_cast<Index>(position & (capacity_ - 1))), position,
                upper);
  }

  // The same for who has the slot at hand: `cell` is its commit word.
  template <class Cell>
  static void commit_cell(Cell&& cell, Index position, std::uint32_t upper) {
    // release: the payload written before is visible to whoever reads this word with the acquire in
    // RingReader::upper_at.
    cell.store(commit_word<Index, Seq>(position, upper), std::memory_order_release);
  }

 private:
  Memory memory_;
  Index capacity_;
  Index position_ = 0;  // next slot to claim
  Index consumed_ = 0;  // what the reader was last seen to have consumed: never ahead of the truth
};

template <class Memory>
class RingReader {
 public:
  using Index = typename Memory::Index;
  using Seq = typename Memory::Seq;

  RingReader(Memory memory, Index capacity, Index position = 0)
      : memory_(memory), capacity_(capacity), published_(position) {}

  const Memory& memory() const { return memory_; }

  // The upper half of the commit word if slot `position` is valid, else nothing. The payload may
  // then be read until the position is published.
  std::optional<std::uint32_t> upper_at(Index position) const {
    // acquire: synchronizes with the release store in RingWriter::commit (or with the GPU's
    // system-scope fence before its store), so the payload is complete when the number is right.
    const std::uint64_t word = memory_.commit_cell(static_cast<Index>(position & (capacity_ - 1)))
                                   .load(std::memory_order_acquire);
    // A slot of an earlier lap, or a fresh zero, carries another number: two laps differ by
    // `capacity`, which Seq can count.
    if (static_cast<Seq>(word) != static_cast<Seq>(position + 1)) return std::nullopt;
    return static_cast<std::uint32_t>(word >> 32);
  }

  // First position from `position` on, below position + limit, that isn't valid.
  Index valid_end(Index position, Index limit) const {
    Index n = 0;
    while (n < limit && upper_at(static_cast<Index>(position + n))) ++n;
    return static_cast<Index>(position + n);
  }

  // Everything below `position` may be overwritten. A reader that publishes in batches must also
  // publish when it has caught up, or a writer that finds the ring full would never find room
  // again.
  void publish(Index position) {
    if (position == published_) return;
    published_ = position;
    // release: our reads of the slots come before the writer's next ones; pairs with the acquire in
    // RingWriter::room.
    memory_.consumed_cell().store(position, std::memory_order_release);
  }

  Index published() const { return published_; }

 private:
  Memory memory_;
  Index capacity_;
  Index published_;
};

}  // namespace moetrace
