// The model on the CPU, with libtorch.
#pragma once

#include <filesystem>
#include <memory>

#include "engine/model.hpp"

namespace moetrace::engine {

// The computation is float32. Weights that are stored in 16 bits are widened to float32 at loading
// if the memory suffices, otherwise at each use.
Result<std::unique_ptr<Model>> load_torch_model(const std::filesystem::path& folder);

}  // namespace moetrace::engine
