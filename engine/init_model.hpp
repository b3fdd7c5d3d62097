// Writes a small Qwen2MoeForCausalLM folder with random weights, so that the engine runs without a
// download.
#pragma once

#include <cstdint>
#include <filesystem>

#include "engine/errors.hpp"
#include "engine/safetensors.hpp"

namespace moetrace::engine {

// config.json, generation_config.json, model.safetensors, tokenizer.json and tokenizer_config.json
// in `folder`, which is made if it isn't there. The same bytes for the same seed on every machine;
// the numbers are the same in float32 and in bfloat16. kCantWrite if the folder holds something
// that this function did not write.
Result<void> init_model(const std::filesystem::path& folder, uint64_t seed, Dtype dtype);

}  // namespace moetrace::engine
