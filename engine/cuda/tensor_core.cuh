// The PTX instructions of the matrix kernels, each as a named function.
#pragma once

#include <cstdint>

#include "engine/cuda/numbers.cuh"

namespace moetrace::engine::gpu {

// C += A B by one warp, m16n8k16. With g = lane / 4 and t = lane % 4, a lane holds:
// - A: a0, a2 of row g and a1, a3 of row g + 8. a0, a1 at column 2t; a2, a3 at column 2t + 8.
// - B: b0, b1 of column g. b0 at row 2t; b1 at row 2t + 8.
// - C: c0, c1 of row g and c2, c3 of row g + 8. c0, c2 at column 2t; c1, c3 at column 2t + 1.
// Each a and b is a pair of neighbours.
__device__ inline void multiply_add(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2,
                                    uint32_t a3, uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
      "{%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// Loads four 8x8 matrices from shared memory. Lane i gives the address of row i % 8 of matrix
// i / 8.
__device__ inline void load_matrices(uint32_t (&to)[4], uint32_t shared_address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(shared_address));
}

__device__ inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// Copies 16 bytes from global to shared memory in the background; writes zeros if !there.
__device__ inline void copy16(uint32_t to_shared, const void* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to_shared), "l"(from),
               "r"(there ? 16 : 0)
               : "memory");
}
__device__ inline void end_copy_group() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until at most the kPending latest groups are in flight.
template <int kPending>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Loads 16 bytes of weights; returns zeros if !there. Weights are read once, so the load bypasses
// the L1 cache. `volatile` keeps the load in its place, before wait_for_previous().
__device__ inline uint4 load_weights(const bfloat16* from, bool there) {
  uint4 words;
  asm volatile(
      "{\n .reg .pred p;\n setp.ne.u32 p, %5, 0;\n mov.u32 %0, 0;\n mov.u32 %1, 0;\n"
      " mov.u32 %2, 0;\n mov.u32 %3, 0;\n"
      " @p ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];\n}"
      : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
      : "l"(from), "r"(there ? 1 : 0));
  return words;
}

}  // namespace moetrace::engine::gpu
