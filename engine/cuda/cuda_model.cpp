#include "engine/cuda/cuda_model.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "engine/cuda/caught.hpp"
#include "engine/cuda/cuda_tracer.hpp"
#include "engine/cuda/decode_graph.hpp"
#include "engine/cuda/forward_pass.hpp"
#include "engine/files.hpp"

namespace moetrace::engine::gpu {

namespace {

// Initial size of the prefill workspace: the rows of a pass of Generation, which bounds them
// likewise, and its sequences. A larger pass makes the workspace grow.
constexpr int64_t kPromptRows = 2048;
constexpr int64_t kPromptSpans = 256;

class Stream {
 public:
  Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream"); }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  Event() { check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "event"); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

// Allocated from the device's memory pool. keep_freed_memory() makes the pool keep freed memory, so
// that the next sequence gets it without a system call.
class DeviceKvCache final : public KvCache {
 public:
  DeviceKvCache(size_t bytes, int64_t capacity, cudaStream_t stream)
      : stream_(stream), capacity_(capacity) {
    check(cudaMallocAsync(&data_, bytes, stream), "cache");
  }
  ~DeviceKvCache() override { cudaFreeAsync(data_, stream_); }

  RowSlot slot(int64_t position, int64_t token) const {
    return {data_, static_cast<int32_t>(capacity_), static_cast<int32_t>(position),
            static_cast<int32_t>(token), 0};
  }

 private:
  cudaStream_t stream_;
  int64_t capacity_;
  void* data_ = nullptr;
};

int current_device() {
  int count = 0;
  int device = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0 ||
      cudaGetDevice(&device) != cudaSuccess) {
    cudaGetLastError();
    return -1;
  }
  return device;
}

void keep_freed_memory(int device) {
  cudaMemPool_t pool = nullptr;
  uint64_t all = UINT64_MAX;
  check(cudaDeviceGetDefaultMemPool(&pool, device), "memory pool");
  check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &all), "memory pool");
}

template <class T>
void copy_in(const DeviceArray<T>& to, const PinnedArray<T>& from, int64_t count,
             cudaStream_t stream) {
  check(cudaMemcpyAsync(to.get(), from.get(), static_cast<size_t>(count) * sizeof(T),
                        cudaMemcpyHostToDevice, stream),
        "copying inputs");
}

}  // namespace

int64_t padded_rows(int64_t rows) {
  constexpr std::array<int64_t, 13> kSizes = {1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256};
  for (const int64_t size : kSizes) {
    if (rows <= size) return size;
  }
  return (rows + 255) / 256 * 256;
}

struct CudaModel::Parts {
  ModelConfig config;
  int device;
  Stream stream;
  Event computed;
  std::unique_ptr<ForwardPass> forward;
  std::unique_ptr<Workspace> prefill;
  std::map<int64_t, DecodeGraph> decode;  // by padded_rows()

  Parts(ModelConfig of_model, int on_device) : config(std::move(of_model)), device(on_device) {
    keep_freed_memory(device);
  }

  // Enqueue the pass. Prefill gives logits of the last row of each span, or of all rows. `hook` is
  // called within the pass.
  const Workspace& enqueue_prefill(const Pass& pass, bool all_rows, RouterHook* hook);
  const Workspace& enqueue_decode(const Pass& pass, RouterHook* hook);
  // Enqueues the pass and the copy of its outputs, and waits for both.
  template <class CopyOut>
  void run(const Pass& pass, bool all_rows, RouterHook* hook, CopyOut copy_out);
};

template <class CopyOut>
void CudaModel::Parts::run(const Pass& pass, bool all_rows, RouterHook* hook, CopyOut copy_out) {
  const bool decodes = std::all_of(pass.spans.begin(), pass.spans.end(),
                                   [](const PassSpan& span) { return span.rows == 1; });
  const bool after = hook != nullptr && hook->when() == RouterHook::When::kAfterPass;
  RouterHook* within = after ? nullptr : hook;
  const Workspace& w =
      decodes ? enqueue_decode(pass, within) : enqueue_prefill(pass, all_rows, within);
  copy_out(w);
  check(cudaEventRecord(computed.get(), stream.get()), "forward pass");
  // Call the hook now, while the GPU runs the pass and this thread would only wait. The kernels
  // that the hook enqueues run while this thread prepares the next pass.
  if (after) forward->report_all(w, static_cast<int>(pass.tokens.size()), *hook);
  check(cudaEventSynchronize(computed.get()), "forward pass");
}

const Workspace& CudaModel::Parts::enqueue_prefill(const Pass& pass, bool all_rows,
                                                   RouterHook* hook) {
  const auto rows = static_cast<int64_t>(pass.tokens.size());
  const auto spans = static_cast<int64_t>(pass.spans.size());
  const int64_t logit_rows = all_rows ? rows : spans;
  if (prefill == nullptr || prefill->rows < rows || prefill->logit_rows < logit_rows) {
    prefill.reset();  // frees the old one first, so that the memory need not hold both
    prefill = std::make_unique<Workspace>(config, forward->type(), std::max(rows, kPromptRows),
                                          std::max(logit_rows, kPromptSpans), stream.get());
  }
  const Workspace& w = *prefill;
  int64_t row = 0;
  int64_t tiles = 0;
  int64_t wanted = 0;
  for (const PassSpan& span : pass.spans) {
    const auto& cache = *static_cast<const DeviceKvCache*>(span.cache);
    for (int64_t i = 0; i < span.rows; ++i, ++row) {
      w.host_slots[static_cast<size_t>(row)] =
          cache.slot(span.first_position + i, pass.tokens[static_cast<size_t>(row)]);
      if (i % kPrefillRows == 0) {
        w.host_tiles[static_cast<size_t>(tiles++)] = {
            static_cast<int32_t>(row),
            static_cast<int32_t>(std::min<int64_t>(kPrefillRows, span.rows - i))};
      }
      if (all_rows || i == span.rows - 1)
        w.host_logits_of[static_cast<size_t>(wanted++)] = static_cast<int32_t>(row);
    }
  }
  copy_in(w.slots, w.host_slots, rows, stream.get());
  copy_in(w.tiles, w.host_tiles, tiles, stream.get());
  copy_in(w.logits_of, w.host_logits_of, wanted, stream.get());
  forward->prefill(w, static_cast<int>(rows), static_cast<int>(tiles), static_cast<int>(wanted),
                   hook);
  return w;
}

const Workspace& CudaModel::Parts::enqueue_decode(const Pass& pass, RouterHook* hook) {
  const auto rows = static_cast<int64_t>(pass.tokens.size());
  const int64_t padded = padded_rows(rows);
  auto found = decode.find(padded);
  if (found == decode.end())
    found = decode.try_emplace(padded, config, *forward, padded, stream.get()).first;
  const Workspace& w = found->second.workspace();
  for (int64_t row = 0; row < padded; ++row) {
    const auto at = static_cast<size_t>(row);
    if (row < rows) {
      const PassSpan& span = pass.spans[at];
      w.host_slots[at] =
          static_cast<const DeviceKvCache*>(span.cache)->slot(span.first_position, pass.tokens[at]);
    } else {
      w.host_slots[at] = {w.padding_cache.get(), 1, 0, 0, 0};
    }
  }
  copy_in(w.slots, w.host_slots, padded, stream.get());
  found->second.run(hook);
  return w;
}

CudaModel::CudaModel(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

CudaModel::~CudaModel() {
  cudaStreamSynchronize(parts_->stream.get());  // kernels may still use the buffers
}

Result<std::unique_ptr<CudaModel>> CudaModel::load(const std::filesystem::path& folder,
                                                   std::optional<NumberType> type) {
  const int device = current_device();
  if (device < 0) {
    return Error{ErrorCode::kUnsupported, "--device cuda: found no GPU with a driver for CUDA " +
                                              std::to_string(CUDART_VERSION / 1000) +
                                              "; use --device cpu"};
  }
  auto config = load_config(folder);
  if (!config) return config.error();
  if (auto supported = check_supported(*config); !supported) return supported.error();
  auto checkpoint = Checkpoint::open(folder);
  if (!checkpoint) return checkpoint.error();
  const NumberType number = type.value_or(config->dtype == Dtype::kBfloat16 ? NumberType::kBfloat16
                                                                            : NumberType::kFloat32);
  auto made = caught([&]() -> Result<std::unique_ptr<Parts>> {
    auto parts = std::make_unique<Parts>(std::move(*config), device);
    auto weights = load_weights(*checkpoint, parts->config, number);
    if (!weights) return weights.error();
    parts->forward =
        std::make_unique<ForwardPass>(parts->config, std::move(*weights), parts->stream.get());
    return parts;
  });
  if (!made) return in_context(shown(folder), made.error());
  return std::unique_ptr<CudaModel>(new CudaModel(std::move(*made)));
}

Result<std::unique_ptr<CudaModel>> CudaModel::random(const ModelConfig& config, NumberType type,
                                                     uint64_t seed) {
  const int device = current_device();
  if (device < 0) {
    return Error{ErrorCode::kUnsupported,
                 "found no GPU; run this on a machine with one and its driver"};
  }
  if (auto supported = check_supported(config); !supported) return supported.error();
  return caught([&] {
    auto parts = std::make_unique<Parts>(config, device);
    parts->forward = std::make_unique<ForwardPass>(
        parts->config, random_weights(parts->config, type, seed), parts->stream.get());
    return std::unique_ptr<CudaModel>(new CudaModel(std::move(parts)));
  });
}

const ModelConfig& CudaModel::config() const {
  return parts_->config;
}

CUstream_st* CudaModel::stream() const {
  return parts_->stream.get();
}

Result<std::shared_ptr<KvCache>> CudaModel::new_cache(int64_t capacity) const {
  return caught([&]() -> std::shared_ptr<KvCache> {
    return std::make_shared<DeviceKvCache>(
        cache_bytes(parts_->config, parts_->forward->type(), capacity), capacity,
        parts_->stream.get());
  });
}

Result<std::vector<int64_t>> CudaModel::next_tokens(const Pass& pass, RouterHook* hook) const {
  return caught([&] {
    const unsigned long long* best = nullptr;
    parts_->run(pass, false, hook, [&](const Workspace& w) {
      best = w.host_best.get();
      check(cudaMemcpyAsync(w.host_best.get(), w.best.get(),
                            pass.spans.size() * sizeof(unsigned long long), cudaMemcpyDeviceToHost,
                            parts_->stream.get()),
            "copying tokens");
    });
    std::vector<int64_t> tokens;
    for (size_t i = 0; i < pass.spans.size(); ++i) tokens.push_back(best_index(best[i]));
    return tokens;
  });
}

Result<std::vector<float>> CudaModel::logits(const Pass& pass, RouterHook* hook) const {
  return caught([&] {
    std::vector<float> values(pass.tokens.size() * static_cast<size_t>(parts_->config.vocab_size));
    parts_->run(pass, true, hook, [&](const Workspace& w) {
      check(cudaMemcpyAsync(values.data(), w.logits.get(), values.size() * sizeof(float),
                            cudaMemcpyDeviceToHost, parts_->stream.get()),
            "copying logits");
    });
    return values;
  });
}

Result<std::unique_ptr<Tracer>> CudaModel::open_tracer(int64_t seed) const {
  return CudaTracer::open(parts_->config, seed, parts_->device, parts_->stream.get());
}

}  // namespace moetrace::engine::gpu
