// Weights of a model as tensors: looked up by name, checked against the shape that the config
// implies.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <string>
#include <vector>

#include "engine/errors.hpp"
#include "engine/safetensors.hpp"

namespace moetrace::engine {

// One weight: float32, or as stored in 16 bits and widened at each use.
class Weight {
 public:
  Weight() = default;
  explicit Weight(at::Tensor stored) : stored_(std::move(stored)) {}

  at::Tensor float32() const {
    return stored_.to(at::kFloat);
  }  // the tensor itself if it is float32 already
  const at::Tensor& stored() const { return stored_; }
  // x [rows, in] times this [out, in], transposed: [rows, out].
  at::Tensor linear(const at::Tensor& x) const { return at::mm(x, float32().t()); }
  Weight select(int64_t index) const { return Weight(stored_.select(0, index)); }
  Weight narrow(int64_t start, int64_t length) const {
    return Weight(stored_.narrow(0, start, length));
  }

 private:
  at::Tensor stored_;
};

// Remembers the first error, so that loading reads as a list of names; check `error()` at the end.
class WeightLoader {
 public:
  explicit WeightLoader(const Checkpoint& checkpoint);

  Weight get(const std::string& name, const std::vector<int64_t>& shape);
  bool has(const std::string& name) const { return checkpoint_.find(name) != nullptr; }
  const std::optional<Error>& error() const { return error_; }

 private:
  const Checkpoint& checkpoint_;
  bool widen_;
  std::optional<Error> error_;
};

}  // namespace moetrace::engine
