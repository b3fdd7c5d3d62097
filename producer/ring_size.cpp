#include "producer/ring_size.hpp"

#include <sys/statvfs.h>

#include <bit>
#include <charconv>
#include <cmath>
#include <optional>

namespace moetrace {
namespace {

constexpr double kMiB = 1024 * 1024;
constexpr double kDefaultMb = 64;
constexpr double kLeastDefaultMb = 4;

// Nothing if the file system does not say it, or is not there.
std::optional<std::uint64_t> free_bytes(const std::string& directory) {
  struct statvfs status {};
  if (::statvfs(directory.c_str(), &status) != 0 || status.f_blocks == 0) return std::nullopt;
  return std::uint64_t{status.f_bavail} * status.f_frsize;
}

// "64", "0.5"
std::string megabytes(double mb) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, mb).ptr};
}
std::string whole_megabytes(std::uint64_t bytes) {
  return std::to_string(bytes >> 20);
}

std::string ring_of(std::uint64_t slots, std::uint32_t stride) {
  return megabytes(static_cast<double>(slots * stride) / kMiB) + " MiB for " +
         std::to_string(slots) + " records";
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
    size.warning = "ring: " + ring_of(slots, stride) + ", since " + directory + " has " +
                   whole_megabytes(*room) +
                   " MiB free; make it larger (for Docker: --shm-size=1g), or set MOETRACE_RING_MB";
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
    size.warning = source + ": " + megabytes(mb) + " becomes " + ring_of(slots, stride) +
                   ", the next power of two";
  }
  const std::uint64_t bytes = segment_bytes(header, size.sizes);
  if (const auto room = free_bytes(directory); room && bytes > *room) {
    return Error{ErrorCode::kNoSpace,
                 source + ": " + megabytes(mb) + " asks for a ring of " + ring_of(slots, stride) +
                     ", which takes " + whole_megabytes(bytes) + " MiB in all, but " + directory +
                     " has " + whole_megabytes(*room) + " MiB free; give less, or make it larger"};
  }
  return size;
}

}  // namespace moetrace
