#include "shm/header_check.hpp"

#include <bit>
#include <cmath>
#include <iterator>

// Asserts the layout in each build of the library.
#include "shm/abi_layout.h"
#include "shm/route_layout.hpp"

namespace moetrace {
namespace {

struct Part {
  const char* name;
  std::uint64_t offset;
  std::uint64_t count;
  std::uint64_t stride;
};

constexpr const char* kUnmarked = "a value is set whose flag does not mark it as known";

// What is wrong with a layer's entry.
std::optional<std::string> wrong_entry(const moetrace_ring_header& h,
                                       const moetrace_layer_entry& entry) {
  const auto has = [&](std::uint32_t flag) { return (entry.flags & flag) != 0; };
  if ((has(MOETRACE_LAYER_RENORMALIZED) && !has(MOETRACE_LAYER_RENORMALIZED_KNOWN)) ||
      (has(MOETRACE_LAYER_BIASED) && !has(MOETRACE_LAYER_BIASED_KNOWN)) ||
      (has(MOETRACE_LAYER_TABLE) && !has(MOETRACE_LAYER_TABLE_KNOWN)) ||
      (entry.zero_experts != 0 && !has(MOETRACE_LAYER_ZERO_EXPERTS_KNOWN)) ||
      (entry.scaling != 0 && !has(MOETRACE_LAYER_SCALING_KNOWN)) ||
      (entry.groups != 0 && !has(MOETRACE_LAYER_GROUPS_KNOWN)))
    return kUnmarked;
  if (entry.top_k > h.top_k) {
    return "top_k is " + std::to_string(entry.top_k) + "; expected at most " +
           std::to_string(h.top_k);
  }
  const std::uint64_t experts = std::uint64_t{entry.experts} + entry.zero_experts;
  if (experts > h.num_experts) {
    return "experts + zero_experts is " + std::to_string(experts) + "; expected at most " +
           std::to_string(h.num_experts);
  }
  if (!std::isfinite(entry.scaling)) return "scaling is not finite";
  if (!has(MOETRACE_LAYER_GROUPS_KNOWN)) {
    if (entry.topk_groups == 0) return std::nullopt;
    return kUnmarked;
  }
  if (entry.topk_groups == 0 || entry.topk_groups > entry.groups ||
      entry.groups > MOETRACE_MAX_EXPERTS)
    return "expected 1 <= topk_groups <= groups <= 65535";
  return std::nullopt;
}

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
  if (h.route_stride != RouteLayout::of_top_k(h.top_k).stride())
    return "route_stride does not match top_k";
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
  const bool has_table = layer_table_offset(h) != 0;
  // No product below can overflow: counts are below 2^32 and strides at most 4096.
  const Part parts[] = {
      {"header", 0, 1, sizeof(moetrace_ring_header)},
      {"state", h.state_offset, 1, sizeof(moetrace_state)},
      {"request table", h.request_offset, h.request_slots, sizeof(moetrace_request_entry)},
      {"event ring", h.event_offset, h.event_slots, 64},
      {"route ring", h.route_offset, h.route_slots, h.route_stride},
      {"counts", h.counts_offset, std::uint64_t{h.num_layers} * h.num_experts, 8},
      {"layer table", h.layer_table_offset, h.num_layers, sizeof(moetrace_layer_entry)},
  };
  std::uint64_t end = 0;
  for (const Part& part : std::span(parts).first(std::size(parts) - (has_table ? 0 : 1))) {
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

std::uint64_t layer_table_offset(const moetrace_ring_header& h) {
  return h.abi_minor < 3 ? 0 : h.layer_table_offset;
}

std::optional<std::string> check_layer_table(const moetrace_ring_header& h,
                                             std::span<const moetrace_layer_entry> entries) {
  for (std::size_t layer = 0; layer < entries.size(); ++layer) {
    if (const auto wrong = wrong_entry(h, entries[layer]))
      return "layer table, layer " + std::to_string(layer) + ": " + *wrong;
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
  end(h.engine_id);
}

void terminate_strings(moetrace_layer_entry& entry) {
  entry.score[sizeof entry.score - 1] = '\0';
}

}  // namespace moetrace
