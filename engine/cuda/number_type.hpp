// The number type of a model's weights, caches and activations on the GPU.
#pragma once

#include <cstddef>

namespace moetrace::engine::gpu {

enum class NumberType { kFloat32, kBfloat16 };

constexpr size_t bytes_of(NumberType type) {
  return type == NumberType::kBfloat16 ? 2 : 4;
}

}  // namespace moetrace::engine::gpu
