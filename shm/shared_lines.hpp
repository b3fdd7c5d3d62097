// Two ways for one writer to hand a few words to any number of readers, without a lock and without
// stand-alone fences.
//
// Both rest on one argument. The writer stores payload words with release; a reader loads them with
// acquire. So a reader that loads a word of a later write also sees what the writer stored before
// that word: the number or version that shows that a later write has begun.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "shm/ring.hpp"

namespace moetrace {

// A line of AlternatingLines by value: the write's number, then its payload.
template <std::size_t PayloadWords>
struct NumberedLine {
  std::uint64_t number;
  std::array<std::uint64_t, PayloadWords> payload;
};

// Two 64-byte lines, written in turn. Word 0 of a line is the number of its write. At every instant
// one of the two lines is whole, also if the writer dies in the middle of the other. Used for the
// hook's snapshots and the collector's ledger.
//
// Lines gives cell(line, word), with .load(order) and .store(value, order). PayloadWords is smaller
// only in the model test, whose search grows with each word.
template <class Lines, std::size_t PayloadWords = 7>
class AlternatingLines {
 public:
  static constexpr std::size_t kWords = PayloadWords;
  using Line = NumberedLine<kWords>;

  explicit AlternatingLines(Lines lines) : lines_(lines) {}

  // Call from one thread only. `number` counts 1, 2, 3, ...: one more than the last write's.
  void write(const Line& line) {
    const std::size_t index = line.number % 2;
    for (std::size_t w = 0; w < kWords; ++w) {
      // release: pairs with the acquire of the payload in read(). A reader that sees this word also
      // sees number - 1 in the other line, which was stored before.
      lines_.cell(index, w + 1).store(line.payload[w], std::memory_order_release);
    }
    // release: pairs with the acquire of the number in read().
    lines_.cell(index, 0).store(line.number, std::memory_order_release);
  }

  // The newest whole line. Nothing before the first write, or if the writer overtook every one of
  // `tries` reads.
  std::optional<Line> read(int tries = 8) const {
    while (tries-- > 0) {
      // acquire, both: pair with the release of the number in write(), so the payload of the newest
      // line is complete.
      const std::uint64_t even = lines_.cell(0, 0).load(std::memory_order_acquire);
      const std::uint64_t odd = lines_.cell(1, 0).load(std::memory_order_acquire);
      const std::size_t newest = odd > even ? 1 : 0;
      Line line{newest == 1 ? odd : even, {}};
      if (line.number == 0) return std::nullopt;
      for (std::size_t w = 0; w < kWords; ++w) {
        // acquire: pairs with the release of the payload in write(), and keeps the check below from
        // moving up.
        line.payload[w] = lines_.cell(newest, w + 1).load(std::memory_order_acquire);
      }
      // Write number + 2 reuses this line, and only after number + 1 is stored in the other line.
      // If any payload word above came from number + 2, this load therefore finds at least number
      // + 1. relaxed: the acquires above order it.
      if (lines_.cell(1 - newest, 0).load(std::memory_order_relaxed) < line.number) return line;
    }
    return std::nullopt;
  }

 private:
  Lines lines_;
};

// A 64-byte struct of abi.h whose first word is `number`, as the words of its line, and back.
template <class Struct>
constexpr NumberedLine<7> to_line(const Struct& value) {
  static_assert(offsetof(Struct, number) == 0, "word 0 of a line is its number");
  return std::bit_cast<NumberedLine<7>>(value);
}
template <class Struct>
constexpr Struct from_line(const NumberedLine<7>& line) {
  static_assert(offsetof(Struct, number) == 0, "word 0 of a line is its number");
  return std::bit_cast<Struct>(line);
}

// Lines of a mapped file.
class MappedLines {
 public:
  explicit MappedLines(void* first_line) : words_(static_cast<std::uint64_t*>(first_line)) {}
  SharedWord cell(std::size_t line, std::size_t word) const {
    return SharedWord(words_ + line * 8 + word);
  }

 private:
  std::uint64_t* words_;
};

// A sequence lock over any number of words: the version is odd while a writer stores them. A writer
// that dies leaves it odd, and readers keep their last copy. Used for the control words and the
// counts.
//
// Words gives version() and cell(word), each with .load(order) and .store(value, order).
template <class Words>
class VersionedWords {
 public:
  explicit VersionedWords(Words words) : words_(words) {}

  // Call from one writer at a time. get(i) returns word i.
  template <class Get>
  void write(std::size_t count, Get get) {
    // relaxed: we are the only writer. If a dead writer left the version odd, we take it over.
    const std::uint64_t before = words_.version().load(std::memory_order_relaxed) | 1;
    // relaxed: the releases below order it before the words.
    words_.version().store(before, std::memory_order_relaxed);
    for (std::size_t w = 0; w < count; ++w) {
      // release: pairs with the acquire of the words in read(). A reader that sees this word also
      // sees the odd version.
      words_.cell(w).store(get(w), std::memory_order_release);
    }
    // release: pairs with the acquire of the version in read().
    words_.version().store(before + 1, std::memory_order_release);
  }

  // Calls put(i, word) for each word. Returns the version of the copy if it is whole; nothing if
  // every one of `tries` copies was overtaken or found the version odd.
  template <class Put>
  std::optional<std::uint64_t> read(std::size_t count, Put put, int tries = 4) const {
    while (tries-- > 0) {
      // acquire: pairs with the release of the even version in write(), so its words are complete.
      const std::uint64_t version = words_.version().load(std::memory_order_acquire);
      if (version % 2 != 0) continue;
      for (std::size_t w = 0; w < count; ++w) {
        // acquire: pairs with the release of the words in write(), and keeps the check below from
        // moving up.
        put(w, words_.cell(w).load(std::memory_order_acquire));
      }
      // A word of a later write makes its odd version visible here. relaxed: the acquires above
      // order it.
      if (words_.version().load(std::memory_order_relaxed) == version) return version;
    }
    return std::nullopt;
  }

 private:
  Words words_;
};

// A version word, and the words that it guards anywhere else in a mapped file.
class MappedWords {
 public:
  MappedWords(std::uint64_t* version, std::uint64_t* first) : version_(version), first_(first) {}
  SharedWord version() const { return SharedWord(version_); }
  SharedWord cell(std::size_t word) const { return SharedWord(first_ + word); }

 private:
  std::uint64_t* version_;
  std::uint64_t* first_;
};

}  // namespace moetrace
