// The model on the CPU, with libtorch.
#pragma once

#include <filesystem>
#include <memory>

#include "engine/model.hpp"

namespace moetrace::engine {

// Weights that are stored in 16 bits are widened to float32 once where the memory is there, else
// each time they are used; the computation is float32 either way.
Result<std::unique_ptr<Model>> load_torch_model(const std::filesystem::path& folder);

}  // namespace moetrace::engine
