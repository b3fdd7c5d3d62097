// Turns the exceptions of the CUDA engine into Results, at the engine's edge.
#pragma once

#include <new>

#include "engine/cuda/cuda_error.hpp"
#include "engine/errors.hpp"

namespace moetrace::engine::gpu {

template <class T>
struct ResultOf {
  using type = Result<T>;
};
template <class T>
struct ResultOf<Result<T>> {
  using type = Result<T>;
};

// Returns what `work` returns, a value or a Result, or the Error of the exception that it throws.
template <class Work>
auto caught(const Work& work) -> typename ResultOf<decltype(work())>::type {
  try {
    return work();
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kNoMemory, std::string("not enough memory") + kLessMemory};
  } catch (const CudaError& error) {
    return Error{error.memory() ? ErrorCode::kNoMemory : ErrorCode::kFailed,
                 std::string("cuda: ") + error.what() +
                     (error.memory() ? kLessMemory : "; check the GPU, or use --device cpu")};
  }
}

}  // namespace moetrace::engine::gpu
