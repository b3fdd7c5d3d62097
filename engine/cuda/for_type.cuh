// From a NumberType to the C++ type of a kernel's instance.
#pragma once

#include "engine/cuda/number_type.hpp"
#include "engine/cuda/numbers.cuh"

namespace moetrace::engine::gpu {

// Calls work(T{}), where T is float or bfloat16.
template <class Work>
void for_type(NumberType type, const Work& work) {
  if (type == NumberType::kBfloat16) {
    work(bfloat16{});
  } else {
    work(float{});
  }
}

}  // namespace moetrace::engine::gpu
