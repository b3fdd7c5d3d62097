// All memory ordering of the hook's kernels: towards another process, in memory that the CPU maps
// too, and among the blocks of a launch. Each comment names the PTX instruction that libcu++ emits.
#pragma once

#include <cstdint>
#include <cuda/atomic>

namespace moetrace::cuda {

// Among the blocks of a launch.
using DeviceWord = ::cuda::atomic_ref<std::uint64_t, ::cuda::thread_scope_device>;
using SystemWord = ::cuda::atomic_ref<std::uint64_t, ::cuda::thread_scope_system>;

// fence.acq_rel.sys: orders everything that this thread has written, or has seen written (through a
// barrier, or by an earlier kernel), before its next stores, for the CPU as well.
__device__ inline void fence_system() {
  ::cuda::atomic_thread_fence(::cuda::memory_order_acq_rel, ::cuda::thread_scope_system);
}

// st.relaxed.sys: one 8-byte store that the CPU never sees in parts. After a fence_system() of the
// same thread it is a release; its partner is an acquire load on the CPU.
__device__ inline void store_system(std::uint64_t* word, std::uint64_t value) {
  SystemWord(*word).store(value, ::cuda::memory_order_relaxed);
}

// ld.acquire.sys: a read over the bus, about 1.5 us.
__device__ inline std::uint64_t load_acquire_system(std::uint64_t* word) {
  return SystemWord(*word).load(::cuda::memory_order_acquire);
}

// atom.acq_rel.gpu: returns how many blocks have taken a ticket before.
__device__ inline std::uint32_t take_ticket(std::uint32_t& ticket) {
  return ::cuda::atomic_ref<std::uint32_t, ::cuda::thread_scope_device>(ticket).fetch_add(
      1, ::cuda::memory_order_acq_rel);
}

}  // namespace moetrace::cuda
