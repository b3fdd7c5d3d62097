#include <filesystem>
#include <memory>
#include <utility>

#include "engine/model.hpp"
#include "engine/torch_model.hpp"
#ifdef MOETRACE_ENGINE_CUDA
#include "engine/cuda/cuda_model.hpp"
#endif

namespace moetrace::engine {

Result<std::unique_ptr<Model>> Model::load(const std::filesystem::path& folder, Device device) {
  if (device == Device::kCpu) return load_torch_model(folder);
#ifdef MOETRACE_ENGINE_CUDA
  auto model = gpu::CudaModel::load(folder);
  if (!model) return model.error();
  return std::unique_ptr<Model>(std::move(*model));
#else
  return Error{ErrorCode::kUnsupported,
               "--device cuda: this build lacks the CUDA engine; build with -DMOETRACE_CUDA=ON, or "
               "use --device cpu"};
#endif
}

}  // namespace moetrace::engine
