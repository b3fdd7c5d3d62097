// Owners of memory on the GPU, and of pinned memory on the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "engine/cuda/cuda_error.hpp"

namespace moetrace::engine::gpu {

// Device memory, uninitialised. Throws CudaError.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  explicit DeviceMemory(size_t bytes) {
    if (bytes > 0) check(cudaMalloc(&data_, bytes), "device memory");
  }
  DeviceMemory(DeviceMemory&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    std::swap(data_, other.data_);
    return *this;
  }
  ~DeviceMemory() { cudaFree(data_); }

  void* get() const { return data_; }

 private:
  void* data_ = nullptr;
};

template <class T>
class DeviceArray {
 public:
  DeviceArray() = default;
  explicit DeviceArray(int64_t count) : memory_(static_cast<size_t>(count) * sizeof(T)) {}
  T* get() const { return static_cast<T*>(memory_.get()); }

 private:
  DeviceMemory memory_;
};

// Pinned host memory: the GPU copies to and from it directly. Throws CudaError.
template <class T>
class PinnedArray {
 public:
  PinnedArray() = default;
  explicit PinnedArray(int64_t count) {
    void* data = nullptr;
    check(cudaMallocHost(&data, static_cast<size_t>(count) * sizeof(T)), "pinned memory");
    data_ = static_cast<T*>(data);
  }
  PinnedArray(PinnedArray&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
  PinnedArray& operator=(PinnedArray&& other) noexcept {
    std::swap(data_, other.data_);
    return *this;
  }
  ~PinnedArray() { cudaFreeHost(data_); }
  T* get() const { return data_; }
  T& operator[](size_t index) const { return data_[index]; }

 private:
  T* data_ = nullptr;
};

}  // namespace moetrace::engine::gpu
