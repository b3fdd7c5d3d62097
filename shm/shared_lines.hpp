// Two ways to hand a few words from one writer to any number of readers, without a lock and without
// stand-alone fences.
//
// Both use the same argument: payload words are stored with release and loaded with acquire. A
// reader that sees a word of a later write therefore also sees what the writer stored before it,
// namely the number that gives the later write away.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "shm/ring.hpp"

namespace moetrace {

// Two 64-byte lines, written in turn; word 0 is the write's number. One of them is whole at every
// instant, also when the writer dies in the middle. Lines gives cell(line, word). Used for the
// hook's snapshots and the collector's ledger. PayloadWords is smaller only in the model test, to
// which each word is a dimension.
template <class Lines, std::size_t PayloadWords = 7>
class AlternatingLines {
 public:
  static constexpr std::size_t kWords = PayloadWords;
  using Payload = std::array<std::uint64_t, kWords>;

  explicit AlternatingLines(Lines lines) : lines_(lines) {}

  // Call from one thread only. `number` counts 1, 2, 3, …: one more than the last that was written.
  void write(std::uint64_t number, const Payload& payload) {
    const std::size_t line = number % 2;
    for (std::size_t w = 0; w < kWords; ++w) {
      // release: whoever sees this word also sees number - 1 in the other line, which was stored
      // before.
      lines_.cell(line, w + 1).store(payload[w], std::memory_order_release);
    }
    // release: pairs with the acquire of the number in read().
    lines_.cell(line, 0).store(number, std::memory_order_release);
  }

  struct Line {
    std::uint64_t number;
    Payload payload;
  };

  // The newest whole line; nothing if none was ever written, or if the writer overtook us `tries`
  // times.
  std::optional<Line> read(int tries = 8) const {
    while (tries-- > 0) {
      const std::uint64_t even = lines_.cell(0, 0).load(std::memory_order_acquire);
      const std::uint64_t odd = lines_.cell(1, 0).load(std::memory_order_acquire);
      const std::size_t newest = odd > even ? 1 : 0;
      Line line{newest == 1 ? odd : even, {}};
      if (line.number == 0) return std::nullopt;
      for (std::size_t w = 0; w < kWords; ++w) {
        // acquire: pairs with the payload's release in write(), and keeps the check below from
        // moving up.
        line.payload[w] = lines_.cell(newest, w + 1).load(std::memory_order_acquire);
      }
      // This line is written again only after the other one has got number + 1. If we have seen any
      // word of that, then that number happened before, and this load finds it. relaxed: the
      // acquires above order it.
      if (lines_.cell(1 - newest, 0).load(std::memory_order_relaxed) < line.number) return line;
    }
    return std::nullopt;
  }

 private:
  Lines lines_;
};

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

// A sequence lock over any number of words: the version is odd while they are being written. A
// writer that dies leaves it odd, and readers keep what they had. Words gives version() and
// cell(word). Used for the control words and the counts.
template <class Words>
class VersionedWords {
 public:
  explicit VersionedWords(Words words) : words_(words) {}

  // Call from one writer at a time; get(i) gives word i.
  template <class Get>
  void write(std::size_t count, Get get) {
    // relaxed: we are the only writer. A version left odd by a dead writer is taken over.
    const std::uint64_t before = words_.version().load(std::memory_order_relaxed) | 1;
    words_.version().store(before, std::memory_order_relaxed);
    for (std::size_t w = 0; w < count; ++w) {
      // release: whoever sees this word also sees the odd version.
      words_.cell(w).store(get(w), std::memory_order_release);
    }
    // release: pairs with the first acquire in read().
    words_.version().store(before + 1, std::memory_order_release);
  }

  // The version that put(i, word) was called with a whole copy of, else nothing after `tries`.
  template <class Put>
  std::optional<std::uint64_t> read(std::size_t count, Put put, int tries = 4) const {
    while (tries-- > 0) {
      const std::uint64_t version = words_.version().load(std::memory_order_acquire);
      if (version % 2 != 0) continue;
      for (std::size_t w = 0; w < count; ++w)
        put(w, words_.cell(w).load(std::memory_order_acquire));
      // relaxed: the acquires above keep it below; a word of a later write implies its odd version.
      if (words_.version().load(std::memory_order_relaxed) == version) return version;
    }
    return std::nullopt;
  }

 private:
  Words words_;
};

// A version word and, anywhere else in a mapped file, the words that it guards.
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
