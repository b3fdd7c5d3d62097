// The only places where the hook's kernels order anything: for another process in memory that the
// CPU sees, too, and among the blocks of a launch. libcu++ gives the PTX instructions that are
// named here.
#pragma once

#include <cstdint>
#include <cuda/atomic>

namespace moetrace::cuda {

// Among the blocks of a launch.
using DeviceWord = ::cuda::atomic_ref<std::uint64_t, ::cuda::thread_scope_device>;
using SystemWord = ::cuda::atomic_ref<std::uint64_t, ::cuda::thread_scope_system>;

// fence.acq_rel.sys: everything that this thread has written, or has seen written (through a
// barrier, or by an earlier kernel), comes before whatever it stores next, for the CPU as well.
__device__ inline void fence_system() {
  ::cuda::atomic_thread_fence(::cuda::memory_order_acq_rel, ::cuda::thread_scope_system);
}

// st.relaxed.sys: one 8-byte store that the CPU sees whole. A release together with a
// fence_system() of the same thread before it; an `acquire` load on the other side is its partner.
__device__ inline void store_system(std::uint64_t* word, std::uint64_t value) {
  SystemWord(*word).store(value, ::cuda::memory_order_relaxed);
}

// ld.acquire.sys: reads over the bus, about 1.5 us.
__device__ inline std::uint64_t load_acquire_system(std::uint64_t* word) {
  return SystemWord(*word).load(::cuda::memory_order_acquire);
}

// atom.acq_rel.gpu: the number of blocks that have taken one before.
__device__ inline std::uint32_t take_ticket(std::uint32_t& ticket) {
  return ::cuda::atomic_ref<std::uint32_t, ::cuda::thread_scope_device>(ticket).fetch_add(
      1, ::cuda::memory_order_acq_rel);
}

}  // namespace moetrace::cuda
