// One single-producer, single-consumer ring over raw memory, whose slots carry their own commit
// word.
//
// clang-format off
// A slot's life:   free ──claim──► being written ──commit──► valid ──consume──► free
//                        writer                   writer           reader
// clang-format on
//
// Only the named party takes an edge. The writer may claim slot n only while n - consumed <
// capacity. The reader takes slot n only when its commit word carries n + 1. Neither side waits.
//
// The templates take a Memory. So the same code runs on a mapped file, on uint8_t indices (which
// wrap after 256 slots) and under a model checker. Memory provides:
//
// clang-format off
//   Index                     unsigned type of slot numbers
//   Seq                       unsigned type of the sequence part of the commit word
//   commit_cell(Index slot)   the commit word of a slot: .load(order), .store(value, order)
//   consumed_cell()           the consumed position, with the same two calls
// clang-format on
//
// The caller writes the payload before commit(), and reads it after upper_at() returned a value,
// with plain accesses.
#pragma once

#include <atomic>
#include <bit>
#include <cassert>
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
  RingWriter(Memory memory, Index capacity) : memory_(memory), capacity_(capacity) {
    assert(std::has_single_bit(capacity));
  }

  const Memory& memory() const { return memory_; }
  Index position() const { return position_; }

  // The number of free slots. A cached lower bound if that is at least `wanted`.
  Index room(Index wanted) {
    Index free_slots = static_cast<Index>(capacity_ - static_cast<Index>(position_ - consumed_));
    if (free_slots >= wanted) return free_slots;
    // acquire: synchronizes with the release store in RingReader::publish. The reader is done with
    // every slot below `seen` before we write into it again.
    const Index seen = static_cast<Index>(memory_.consumed_cell().load(std::memory_order_acquire));
    // The reader is not trusted: accept only a value between the last one and our position.
    if (static_cast<Index>(seen - consumed_) <= static_cast<Index>(position_ - consumed_))
      consumed_ = seen;
    return static_cast<Index>(capacity_ - static_cast<Index>(position_ - consumed_));
  }

  // Takes the next `count` slots and returns the number of the first. Call room() first: `count`
  // must not exceed what it returned.
  Index claim(Index count) {
    assert(count <= static_cast<Index>(capacity_ - static_cast<Index>(position_ - consumed_)));
    const Index first = position_;
    position_ = static_cast<Index>(position_ + count);
    return first;
  }

  // Makes the slot valid. Call after the payload is complete.
  void commit(Index position, std::uint32_t upper) {
    commit_cell(memory_.commit_cell(static_cast<Index>(position & (capacity_ - 1))), position,
                upper);
  }

  // The same for a caller that has the slot's commit word, `cell`.
  template <class Cell>
  static void commit_cell(Cell&& cell, Index position, std::uint32_t upper) {
    // release: synchronizes with the acquire load in RingReader::upper_at. A reader that sees this
    // word sees the payload.
    cell.store(commit_word<Index, Seq>(position, upper), std::memory_order_release);
  }

 private:
  Memory memory_;
  Index capacity_;
  // The next slot to claim.
  Index position_ = 0;
  // The consumed position that was last accepted; at most the reader's own.
  Index consumed_ = 0;
};

template <class Memory>
class RingReader {
 public:
  using Index = typename Memory::Index;
  using Seq = typename Memory::Seq;

  RingReader(Memory memory, Index capacity, Index position = 0)
      : memory_(memory), capacity_(capacity), published_(position) {
    assert(std::has_single_bit(capacity));
  }

  const Memory& memory() const { return memory_; }

  // The upper half of the commit word if slot `position` is valid, else nothing. Read the payload
  // before you publish a position after it.
  std::optional<std::uint32_t> upper_at(Index position) const {
    // acquire: synchronizes with the release store in RingWriter::commit, or with the GPU's
    // system-scope fence before its store. If the number is right, the payload is complete.
    const std::uint64_t word = memory_.commit_cell(static_cast<Index>(position & (capacity_ - 1)))
                                   .load(std::memory_order_acquire);
    // A slot of an earlier lap, or a fresh zero, carries another number: laps are `capacity` apart,
    // and Seq counts further than that.
    if (static_cast<Seq>(word) != static_cast<Seq>(position + 1)) return std::nullopt;
    return static_cast<std::uint32_t>(word >> 32);
  }

  // The first invalid position from `position` on; position + limit if all before that are valid.
  Index valid_end(Index position, Index limit) const {
    Index n = 0;
    while (n < limit && upper_at(static_cast<Index>(position + n))) ++n;
    return static_cast<Index>(position + n);
  }

  // Lets the writer overwrite every slot below `position`. If you publish in batches, also publish
  // when you have caught up: otherwise a writer that finds the ring full never finds room again.
  void publish(Index position) {
    if (position == published_) return;
    assert(static_cast<Index>(position - published_) <= capacity_);
    published_ = position;
    // release: synchronizes with the acquire load in RingWriter::room. Our reads of the slots come
    // before the writer's next stores to them.
    memory_.consumed_cell().store(position, std::memory_order_release);
  }

  Index published() const { return published_; }

 private:
  Memory memory_;
  Index capacity_;
  Index published_;
};

}  // namespace moetrace
