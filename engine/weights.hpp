// Weights of a model as tensors, loaded by name and checked against the shape that the config
// implies.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/errors.hpp"
#include "engine/safetensors.hpp"

namespace moetrace::engine {

// One weight: in float32, or in 16 bits as stored, and then widened at each use.
class Weight {
 public:
  Weight() = default;
  explicit Weight(at::Tensor stored) : stored_(std::move(stored)) {}

  // The stored tensor itself if that is float32.
  at::Tensor float32() const { return stored_.to(at::kFloat); }
  const at::Tensor& stored() const { return stored_; }
  // x [rows, in] times the transpose of this weight [out, in]: [rows, out].
  at::Tensor linear(const at::Tensor& x) const { return at::mm(x, float32().t()); }
  Weight select(int64_t index) const { return Weight(stored_.select(0, index)); }
  Weight narrow(int64_t start, int64_t length) const {
    return Weight(stored_.narrow(0, start, length));
  }

 private:
  at::Tensor stored_;
};

// Remembers the first error, so that loading reads as a list of names. Check error() at the end.
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
