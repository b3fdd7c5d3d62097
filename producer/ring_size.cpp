#include "producer/ring_size.hpp"

#include <sys/statvfs.h>

#include <bit>
#include <charconv>
#include <cmath>
#include <optional>

#include "shm/route_layout.hpp"

namespace moetrace {
namespace {

constexpr double kMiB = 1024 * 1024;
constexpr double kDefaultMb = 64;
constexpr double kLeastDefaultMb = 4;

// std::nullopt if the directory is missing, or its file system does not tell.
std::optional<std::uint64_t> free_bytes(const std::string& directory) {
  struct statvfs status {};
  if (::statvfs(directory.c_str(), &status) != 0 || status.f_blocks == 0) return std::nullopt;
  return std::uint64_t{status.f_bavail} * status.f_frsize;
}

// "64", "0.5"
std::string decimal(double number) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, number).ptr};
}
std::string whole_mib(std::uint64_t bytes) {
  return std::to_string(bytes >> 20);
}

// "64 MiB (1048576 records)"
std::string ring_of(std::uint64_t slots, std::uint32_t stride) {
  return decimal(static_cast<double>(slots * stride) / kMiB) + " MiB (" + std::to_string(slots) +
         " records)";
}

}  // namespace

RingSize default_ring_size(const std::string& directory, const moetrace_ring_header& header) {
  const std::uint32_t stride = RouteLayout::of_top_k(header.top_k).stride();
  const auto slots_of = [&](double mb) {
    return std::bit_floor(static_cast<std::uint64_t>(mb * kMiB / stride));
  };
  const std::uint64_t usual = slots_of(kDefaultMb);
  const auto room = free_bytes(directory);
  std::uint64_t slots = usual;
  while (room && slots > slots_of(kLeastDefaultMb) &&
         segment_bytes(header, sizes_of_slots(slots)) > *room / 2) {
    slots /= 2;
  }
  RingSize size{sizes_of_slots(slots), ""};
  if (slots < usual) {
    size.warning = "ring: only " + ring_of(slots, stride) + ", because " + directory + " has " +
                   whole_mib(*room) +
                   " MiB free; enlarge it (Docker: --shm-size=1g), or set MOETRACE_RING_MB";
  }
  return size;
}

Result<RingSize> wanted_ring_size(double mb, const std::string& source,
                                  const std::string& directory,
                                  const moetrace_ring_header& header) {
  const std::uint32_t stride = RouteLayout::of_top_k(header.top_k).stride();
  RingSize size{sizes_for(mb, header.top_k), ""};
  const std::uint64_t slots = size.sizes.route_slots;
  if (static_cast<double>(slots * stride) != mb * kMiB) {
    size.warning = source + ": rounded " + decimal(mb) + " MiB up to " + ring_of(slots, stride) +
                   ", a power of two";
  }
  const std::uint64_t bytes = segment_bytes(header, size.sizes);
  if (const auto room = free_bytes(directory); room && bytes > *room) {
    return Error{ErrorCode::kNoSpace,
                 "invalid value '" + decimal(mb) + "' for " + source + ": a ring of " +
                     ring_of(slots, stride) + " takes " + whole_mib(bytes) + " MiB in all, but " +
                     directory + " has " + whole_mib(*room) +
                     " MiB free; use a smaller size, or enlarge the directory"};
  }
  return size;
}

}  // namespace moetrace
