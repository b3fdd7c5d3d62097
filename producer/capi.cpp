// The C API: checks its arguments, completes options from older callers, and times the GPU's calls.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <utility>

#include "producer/clock.hpp"
#include "producer/producer.h"
#include "producer/ring_producer.hpp"

struct moetrace_producer {
  std::unique_ptr<moetrace::RingProducer> impl;
};

namespace {

using moetrace::AddTime;
using moetrace::DeviceHook;

bool usable(const moetrace_producer* producer) {
  return producer != nullptr && producer->impl->usable();
}

// nullptr in a forked child, and if a CPU thread writes the ring.
DeviceHook* device_hook(const moetrace_producer* producer) {
  return usable(producer) ? producer->impl->device_hook() : nullptr;
}

void record_on_gpu(const moetrace_producer* producer, DeviceHook::Where where,
                   moetrace_cuda_stream stream, uint32_t layer, const void* ids,
                   moetrace_type id_type, const void* weights, moetrace_type weight_type,
                   uint32_t rows) {
  DeviceHook* hook = device_hook(producer);
  if (hook == nullptr || ids == nullptr) return;
  const AddTime timed(producer->impl->launch_ns());
  hook->record(stream, layer, ids, id_type, weights, weight_type, rows, where);
}

void give_error(char* error, std::size_t error_bytes, const char* text) {
  if (error != nullptr && error_bytes > 0) std::snprintf(error, error_bytes, "%s", text);
}

// Options of this library's size, from a caller that was compiled with fewer fields or more. A
// field that this library does not know must be 0: to ignore it would do something else than asked.
moetrace::Result<moetrace_options> complete(const moetrace_options* options) {
  using moetrace::Error, moetrace::ErrorCode;
  constexpr std::size_t kLeast = offsetof(moetrace_options, top_k) + sizeof options->top_k;
  if (options == nullptr) {
    return Error{
        ErrorCode::kBadArgument,
        "moetrace_open: options is NULL; pass the struct that moetrace_options_init set up"};
  }
  if (options->size < kLeast) {
    return Error{ErrorCode::kBadArgument, "invalid value '" + std::to_string(options->size) +
                                              "' for moetrace_options.size: expected at least " +
                                              std::to_string(kLeast) +
                                              "; call moetrace_options_init first"};
  }
  const auto* bytes = reinterpret_cast<const unsigned char*>(options);
  const auto* end = bytes + options->size;
  const auto* unknown = std::find_if(bytes + std::min(options->size, sizeof *options), end,
                                     [](unsigned char byte) { return byte != 0; });
  if (unknown != end) {
    return Error{ErrorCode::kBadArgument,
                 "moetrace_options: byte " + std::to_string(unknown - bytes) +
                     " is set, but this library knows only " + std::to_string(sizeof *options) +
                     " bytes: the caller was built against a newer moetrace; update libmoetrace, "
                     "or leave the newer options unset"};
  }
  moetrace_options whole;
  moetrace_options_init(&whole, sizeof whole);
  std::memcpy(&whole, options, std::min(options->size, sizeof whole));
  return whole;
}

}  // namespace

void moetrace_options_init(moetrace_options* options, size_t size) {
  moetrace_options defaults{};
  defaults.sample_every = -1;
  defaults.cuda_device = -1;
  defaults.router_scaling = 1;
  defaults.world_size = 1;
  defaults.size = size;
  std::memset(options, 0, size);
  std::memcpy(options, &defaults, std::min(size, sizeof defaults));
}

int moetrace_enabled(void) {
  const auto wanted = moetrace::tracing_wanted();
  if (wanted) return *wanted ? 1 : 0;
  static std::atomic_flag said;
  if (!said.test_and_set()) std::fprintf(stderr, "moetrace: %s\n", wanted.error().message.c_str());
  return 0;
}

moetrace_producer* moetrace_open(const moetrace_options* options, char* error, size_t error_bytes) {
  try {
    const auto whole = complete(options);
    if (!whole) {
      give_error(error, error_bytes, whole.error().message.c_str());
      return nullptr;
    }
    const auto settings = moetrace::resolve_settings(*whole);
    if (!settings) {
      give_error(error, error_bytes, settings.error().message.c_str());
      return nullptr;
    }
    // First, because an open producer keeps its GPU memory until the process ends.
    auto producer = std::make_unique<moetrace_producer>();
    auto opened = moetrace::RingProducer::open(*settings);
    if (!opened) {
      give_error(error, error_bytes, opened.error().message.c_str());
      return nullptr;
    }
    producer->impl = std::move(*opened);
    give_error(error, error_bytes, settings->warning.c_str());
    return producer.release();
  } catch (const std::exception& failure) {
    give_error(error, error_bytes, failure.what());
    return nullptr;
  }
}

uint64_t moetrace_request_begin(moetrace_producer* producer, const char* id, uint32_t prompt_tokens,
                                uint32_t cached_tokens) {
  if (!usable(producer)) return 0;
  return producer->impl->requests().begin(id == nullptr ? "" : id, prompt_tokens, cached_tokens);
}

void moetrace_request_end(moetrace_producer* producer, uint64_t request, uint32_t generated_tokens,
                          const char* status) {
  if (!usable(producer)) return;
  producer->impl->requests().end(request, generated_tokens, status == nullptr ? "" : status);
}

int moetrace_step_begin(moetrace_producer* producer, uint32_t rows, const moetrace_span* spans,
                        size_t span_count) {
  if (!usable(producer)) return 0;
  return producer->impl->begin_step(rows, {spans, spans == nullptr ? 0 : span_count}) ? 1 : 0;
}

void moetrace_step_abort(moetrace_producer* producer) {
  if (usable(producer)) producer->impl->abort_step();
}

void moetrace_record(moetrace_producer* producer, uint32_t layer, const void* ids,
                     moetrace_type id_type, const void* weights, moetrace_type weight_type,
                     uint32_t rows) {
  if (usable(producer) && ids != nullptr)
    producer->impl->hook().record(layer, ids, id_type, weights, weight_type, rows);
}

int moetrace_step_begin_cuda(moetrace_producer* producer, moetrace_cuda_stream stream,
                             uint32_t rows, const moetrace_span* spans, size_t span_count) {
  if (!usable(producer)) return 0;
  const moetrace::Spans all{spans, spans == nullptr ? 0 : span_count};
  return producer->impl->begin_step(stream, rows, all) ? 1 : 0;
}

int moetrace_step_begin_columns(moetrace_producer* producer, moetrace_cuda_stream stream,
                                uint32_t count, const uint64_t* requests, const int32_t* starts,
                                const int32_t* firsts, int64_t began_ns) {
  if (!usable(producer)) return 0;
  moetrace::RingProducer& impl = *producer->impl;
  impl.announce_ns() += static_cast<std::uint64_t>(moetrace::monotonic_ns() - began_ns);
  const auto rows = static_cast<std::uint32_t>(starts[count]);
  const moetrace::Spans spans{requests == nullptr ? 0 : count, requests, starts, firsts};
  const bool records =
      impl.device_hook() == nullptr
          ? impl.begin_step(rows, spans)
          : impl.begin_step(stream, rows, spans, moetrace::RingProducer::Capture::kNone);
  return records ? 1 : 0;
}

void moetrace_step_abort_cuda(moetrace_producer* producer, moetrace_cuda_stream stream) {
  if (usable(producer)) producer->impl->abort_step(stream);
}

void moetrace_record_cuda(moetrace_producer* producer, moetrace_cuda_stream stream, uint32_t layer,
                          const void* ids, moetrace_type id_type, const void* weights,
                          moetrace_type weight_type, uint32_t rows) {
  record_on_gpu(producer, DeviceHook::Where::kBranch, stream, layer, ids, id_type, weights,
                weight_type, rows);
}

void moetrace_record_cuda_deferred(moetrace_producer* producer, moetrace_cuda_stream stream,
                                   uint32_t layer, const void* ids, moetrace_type id_type,
                                   const void* weights, moetrace_type weight_type, uint32_t rows) {
  record_on_gpu(producer, DeviceHook::Where::kDeferred, stream, layer, ids, id_type, weights,
                weight_type, rows);
}

void moetrace_record_cuda_in_line(moetrace_producer* producer, moetrace_cuda_stream stream,
                                  uint32_t layer, const void* ids, moetrace_type id_type,
                                  const void* weights, moetrace_type weight_type, uint32_t rows) {
  record_on_gpu(producer, DeviceHook::Where::kInLine, stream, layer, ids, id_type, weights,
                weight_type, rows);
}

void moetrace_join(moetrace_producer* producer, moetrace_cuda_stream stream) {
  if (DeviceHook* hook = device_hook(producer)) {
    const AddTime timed(producer->impl->launch_ns());
    hook->join(stream);
  }
}

const char* moetrace_failure(const moetrace_producer* producer) {
  const DeviceHook* hook = device_hook(producer);
  return hook == nullptr || hook->failure().empty() ? nullptr : hook->failure().c_str();
}

void moetrace_get_totals(const moetrace_producer* producer, moetrace_totals* totals) {
  if (totals == nullptr) return;
  moetrace_totals known{};
  known.size = totals->size;
  if (usable(producer)) {
    known.steps = producer->impl->announcer().steps();
    known.attempted = producer->impl->announcer().attempted();
    const auto records = producer->impl->record_counts();
    known.recorded = records.recorded;
    known.dropped = records.dropped;
    const moetrace::Cost cost = producer->impl->cost();
    known.announce_ns = cost.announce_ns;
    known.hook_ns = cost.hook_ns;
  }
  const std::size_t size = totals->size;
  if (size > sizeof known) std::memset(totals, 0, size);
  std::memcpy(totals, &known, std::min(size, sizeof known));
}

void moetrace_add_cost(moetrace_producer* producer, uint64_t announce_ns, uint64_t hook_ns) {
  if (usable(producer)) producer->impl->add_cost({announce_ns, hook_ns});
}

const char* moetrace_trace_id(const moetrace_producer* producer) {
  return producer == nullptr ? "" : producer->impl->name().trace_id.c_str();
}

const char* moetrace_summary(const moetrace_producer* producer) {
  return producer == nullptr ? "" : producer->impl->summary().c_str();
}

const char* moetrace_no_collector(moetrace_producer* producer) {
  if (!usable(producer)) return nullptr;
  const std::string& line = producer->impl->no_collector();
  return line.empty() ? nullptr : line.c_str();
}

void moetrace_close(moetrace_producer* producer) {
  delete producer;
}
