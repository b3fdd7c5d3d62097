#include "producer/ring_size.hpp"

#include <sys/statvfs.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <optional>

#include "common/text.hpp"
#include "shm/layer_mask.hpp"
#include "shm/route_layout.hpp"

namespace moetrace {
namespace {

constexpr double kMiB = 1024 * 1024;
constexpr double kDefaultMb = 64;
constexpr double kLeastDefaultMb = 4;
// One that is written while the others are drained, and two for a collector that is late.
constexpr double kStepsInARing = 4;

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

// 50331648: "48 MiB"
std::string mib_of(std::uint64_t bytes) {
  return decimal(static_cast<double>(bytes) / kMiB) + " MiB";
}

// "64 MiB (1048576 records)"
std::string ring_of(std::uint64_t slots, std::uint32_t stride) {
  return mib_of(slots * stride) + " (" + std::to_string(slots) + " records)";
}

// What a token of `layers` layers takes: "96 bytes", "3 KiB", "1.5 KiB".
std::string token_bytes(std::uint32_t layers, std::uint32_t stride) {
  const std::uint64_t bytes = std::uint64_t{layers} * stride;
  if (bytes < 1024) return std::to_string(bytes) + " bytes";
  return decimal(std::round(static_cast<double>(bytes) / 102.4) / 10) + " KiB";
}

// "128 MiB for four of the largest steps: holds 5.3 steps of 8,192 tokens in 48 layers, 3 KiB a
// token"
std::string describe(std::uint64_t slots, const std::string& reason,
                     const moetrace_ring_header& header, std::uint64_t largest_step) {
  const std::uint32_t stride = RouteLayout::of_top_k(header.top_k).stride();
  const std::uint32_t layers = count_layers(header.layers_logged);
  std::string text = mib_of(slots * stride) + " " + reason;
  if (layers == 0) return text;
  const std::string rows = counted(layers, "layer") + ", " + token_bytes(layers, stride);
  if (largest_step == 0)
    return text + ": holds " + counted(slots / layers, "token") + " in " + rows + " a token";
  const double steps = static_cast<double>(slots) /
                       (static_cast<double>(largest_step) * static_cast<double>(layers));
  const std::string many =
      steps < 100 ? decimals(steps, 1) : grouped(static_cast<std::uint64_t>(steps));
  return text + ": holds " + many + " steps of " + counted(largest_step, "token") + " in " + rows +
         " a token";
}

}  // namespace

RingSize chosen_ring_size(const std::string& directory, const moetrace_ring_header& header,
                          std::uint64_t largest_step) {
  const std::uint32_t stride = RouteLayout::of_top_k(header.top_k).stride();
  const auto slots_of = [&](double mb) {
    return std::bit_floor(static_cast<std::uint64_t>(mb * kMiB / stride));
  };
  const std::uint64_t least = slots_of(kLeastDefaultMb);
  std::uint64_t usual = slots_of(kDefaultMb);
  std::string reason = "by default";
  if (largest_step > 0) {
    const double wish = kStepsInARing * static_cast<double>(largest_step) *
                        static_cast<double>(count_layers(header.layers_logged));
    usual = std::bit_ceil(static_cast<std::uint64_t>(std::clamp(
        wish, static_cast<double>(least), static_cast<double>(MOETRACE_MAX_ROUTE_SLOTS))));
    reason = "for four of the largest steps";
  }
  const auto room = free_bytes(directory);
  std::uint64_t slots = usual;
  while (room && slots > least && segment_bytes(header, sizes_of_slots(slots)) > *room / 2) {
    slots /= 2;
  }
  RingSize size{sizes_of_slots(slots), "", ""};
  if (slots < usual) {
    size.warning = "ring: only " + ring_of(slots, stride) + " instead of " +
                   mib_of(usual * stride) + " " + reason + ", because " + directory + " has " +
                   whole_mib(*room) +
                   " MiB free; enlarge it (Docker: --shm-size=1g), or set MOETRACE_RING_MB";
    reason = "instead of " + mib_of(usual * stride) + " " + reason;
  }
  size.text = describe(slots, reason, header, largest_step);
  return size;
}

Result<RingSize> wanted_ring_size(double mb, const std::string& source,
                                  const std::string& directory, const moetrace_ring_header& header,
                                  std::uint64_t largest_step) {
  const std::uint32_t stride = RouteLayout::of_top_k(header.top_k).stride();
  RingSize size{sizes_for(mb, header.top_k), "", ""};
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
  size.text = describe(slots, "from " + source, header, largest_step);
  return size;
}

}  // namespace moetrace
