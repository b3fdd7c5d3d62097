#include "engine/weights.hpp"

#include <cstdint>
#include <cstring>
#include <fstream>

namespace moetrace::engine {

namespace {

// Memory that Linux could allocate without swapping (MemAvailable); 0 if it does not say.
uint64_t available_bytes() {
  std::ifstream meminfo("/proc/meminfo");
  std::string key;
  uint64_t kib = 0;
  while (meminfo >> key >> kib) {
    if (key == "MemAvailable:") return kib * 1024;
    meminfo.ignore(64, '\n');
  }
  return 0;
}

at::ScalarType scalar_type(Dtype dtype) {
  if (dtype == Dtype::kBfloat16) return at::kBFloat16;
  return dtype == Dtype::kFloat16 ? at::kHalf : at::kFloat;
}

}  // namespace

// Widens at loading if the float32 weights take at most half of the memory. The other half is for
// caches, activations and other programs.
WeightLoader::WeightLoader(const Checkpoint& checkpoint)
    : checkpoint_(checkpoint), widen_(checkpoint.float32_bytes() <= available_bytes() / 2) {}

Weight WeightLoader::get(const std::string& name, const std::vector<int64_t>& shape) {
  if (error_) return {};
  const auto required = checkpoint_.require(name, shape);
  if (!required) {
    error_ = required.error();
    return {};
  }
  const TensorView* view = *required;
  const auto options = at::TensorOptions().dtype(scalar_type(view->dtype));
  at::Tensor tensor;
  if (reinterpret_cast<uintptr_t>(view->bytes.data()) % dtype_bytes(view->dtype) == 0) {
    // A view of the mapped file. It outlives the model's tensors, and the model only reads weights.
    tensor = at::from_blob(const_cast<std::byte*>(view->bytes.data()), shape, options);
  } else {
    tensor = at::empty(shape, options);
    std::memcpy(tensor.data_ptr(), view->bytes.data(), view->bytes.size());
  }
  if (widen_) tensor = tensor.to(at::kFloat);
  return Weight(tensor);
}

}  // namespace moetrace::engine
