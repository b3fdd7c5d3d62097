#include "shm/header_check.hpp"

#include <bit>
#include <cmath>

// Asserts the layout in each build of the library.
#include "shm/abi_layout.h"

namespace moetrace {
namespace {

struct Part {
  const char* name;
  std::uint64_t offset;
  std::uint64_t count;
  std::uint64_t stride;
};

}  // namespace

std::optional<std::string> check_header(const moetrace_ring_header& h, std::uint64_t file_bytes) {
  if (h.byte_order != MOETRACE_BYTE_ORDER) return "its byte order differs from this machine's";
  if (h.header_bytes != sizeof(moetrace_ring_header))
    return "header_bytes is " + std::to_string(h.header_bytes);
  if (h.ring_bytes != file_bytes) {
    return "its header states " + std::to_string(h.ring_bytes) + " bytes, but the file has " +
           std::to_string(file_bytes);
  }
  if (h.ctl_bytes != sizeof(moetrace_ctl)) return "ctl_bytes is " + std::to_string(h.ctl_bytes);
  if (h.top_k == 0 || h.top_k > MOETRACE_MAX_TOP_K)
    return "top_k is " + std::to_string(h.top_k) + "; expected 1 to 32";
  if (h.route_stride != 64 * ((h.top_k + 7) / 8)) return "route_stride does not match top_k";
  if (h.num_layers == 0 || h.num_layers > MOETRACE_MAX_LAYERS) {
    return "num_layers is " + std::to_string(h.num_layers) + "; expected 1 to 256";
  }
  if (h.num_experts == 0 || h.num_experts > MOETRACE_MAX_EXPERTS) {
    return "num_experts is " + std::to_string(h.num_experts) + "; expected 1 to 65535";
  }
  for (std::uint32_t layer = h.num_layers; layer < MOETRACE_MAX_LAYERS; ++layer) {
    if (((h.layers_logged.words[layer / 64] | h.moe_layers.words[layer / 64]) >> (layer % 64) &
         1) != 0) {
      return "a layer mask names layer " + std::to_string(layer) + ", but the model has " +
             std::to_string(h.num_layers) + " layers";
    }
  }
  if (h.claimer > MOETRACE_CLAIMER_GPU) return "claimer is " + std::to_string(h.claimer);
  if (!std::has_single_bit(h.route_slots) || h.route_slots > MOETRACE_MAX_ROUTE_SLOTS) {
    return "route_slots is not a power of two up to 2^31";
  }
  if (!std::has_single_bit(h.event_slots) || h.event_slots > MOETRACE_MAX_EVENT_SLOTS) {
    return "event_slots is not a power of two up to 2^31";
  }
  if (h.created_realtime_ns < 0 || h.created_monotonic_ns < 0)
    return "its creation time is before 1970";
  if (!std::isfinite(h.router_scaling)) return "router_scaling is not finite";
  // No product below can overflow: counts are below 2^32 and strides at most 4096.
  const Part parts[] = {
      {"header", 0, 1, sizeof(moetrace_ring_header)},
      {"state", h.state_offset, 1, sizeof(moetrace_state)},
      {"request table", h.request_offset, h.request_slots, sizeof(moetrace_request_entry)},
      {"event ring", h.event_offset, h.event_slots, 64},
      {"route ring", h.route_offset, h.route_slots, h.route_stride},
      {"counts", h.counts_offset, std::uint64_t{h.num_layers} * h.num_experts, 8},
  };
  std::uint64_t end = 0;
  for (const Part& part : parts) {
    if (part.offset % 64 != 0) return std::string(part.name) + " is not aligned to 64 bytes";
    if (part.offset < end) return std::string(part.name) + " overlaps the part before it";
    const std::uint64_t bytes = part.count * part.stride;
    if (part.offset > file_bytes || bytes > file_bytes - part.offset) {
      return std::string(part.name) + " ends after the file's end";
    }
    end = part.offset + bytes;
  }
  return std::nullopt;
}

void terminate_strings(moetrace_ring_header& h) {
  const auto end = [](auto& text) { text[sizeof text - 1] = '\0'; };
  end(h.model_id);
  end(h.engine);
  end(h.engine_version);
  end(h.vllm_version);
  end(h.torch_version);
  end(h.device);
  end(h.host);
  end(h.router_score);
  end(h.notes);
}

}  // namespace moetrace
