#include "shm/cut_guard.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <utility>

namespace moetrace {
namespace {

// A region in one word, so that the handler never sees half of it. Upper 36 bits: its first page (a
// 48-bit address without the 12 bits of a page). Lower 28 bits: its number of pages (up to 1 TiB).
// 0: the entry is free.
constexpr unsigned kPageBits = 12;
constexpr unsigned kCountBits = 28;

struct Entry {
  std::atomic<std::uint64_t> pages = 0;
  std::atomic<bool> hit = false;
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free, "a signal handler reads it");

constinit std::array<Entry, 512> table;
const auto kPageBytes = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));

std::uint64_t pack(const boost::interprocess::mapped_region& region) {
  const auto begin = reinterpret_cast<std::uintptr_t>(region.get_address());
  const std::uint64_t count = (region.get_size() + (1u << kPageBits) - 1) >> kPageBits;
  if (begin >> (kPageBits + 64 - kCountBits) != 0 || count >> kCountBits != 0) return 0;
  return begin >> kPageBits << kCountBits | count;
}

// Relaxed order for `pages`: a thread that reads a region made its guard or received it from
// another thread, so it sees the region's entry. It may see old values of other entries; none of
// them covers an address of this region while the region is mapped.
//
// Release and acquire for `hit`: the thread that sets it is the one that puts the zeros in place,
// afterwards. Another thread that reads them has them from the kernel, which flushes that thread's
// view of the pages after the store; so once its work was handed to a third thread, that one sees
// `hit`.
void on_bus_error(int signal, siginfo_t* info, void*) {
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  for (Entry& entry : table) {
    const std::uint64_t pages = entry.pages.load(std::memory_order_relaxed);
    const std::uintptr_t begin = pages >> kCountBits << kPageBits;
    const std::uintptr_t end = begin + ((pages & ((1u << kCountBits) - 1)) << kPageBits);
    if (address < begin || address >= end) continue;
    entry.hit.store(true, std::memory_order_release);
    // Replace everything up to the region's end, because the file ends before this page. mmap is a
    // plain system call, so it is safe in a handler.
    const std::uintptr_t first = address & ~(kPageBytes - 1);
    if (::mmap(reinterpret_cast<void*>(first), end - first, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED)
      return;
  }
  // Not our memory: the instruction runs again and ends the process.
  std::signal(signal, SIG_DFL);
}

void take_handler() {
  static const int taken = [] {
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO;
    return ::sigaction(SIGBUS, &action, nullptr);
  }();
  static_cast<void>(taken);
}

}  // namespace

CutGuard::CutGuard(const boost::interprocess::mapped_region& region) {
  take_handler();
  const std::uint64_t pages = pack(region);
  if (pages == 0) return;
  for (std::size_t index = 0; index < table.size(); ++index) {
    std::uint64_t unused = 0;
    if (!table[index].pages.compare_exchange_strong(unused, pages, std::memory_order_relaxed))
      continue;
    // No thread has read the region yet.
    table[index].hit.store(false, std::memory_order_relaxed);
    index_ = index;
    return;
  }
}

CutGuard::CutGuard(CutGuard&& other) noexcept : index_(std::exchange(other.index_, kNone)) {}

CutGuard& CutGuard::operator=(CutGuard&& other) noexcept {
  std::swap(index_, other.index_);
  return *this;
}

CutGuard::~CutGuard() {
  if (index_ != kNone) table[index_].pages.store(0, std::memory_order_relaxed);
}

bool CutGuard::hit() const {
  return index_ != kNone && table[index_].hit.load(std::memory_order_acquire);
}

}  // namespace moetrace
