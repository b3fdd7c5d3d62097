// Writes a small Qwen2MoeForCausalLM folder with random weights, so that the engine can run without
// a download.
#pragma once

#include <cstdint>
#include <filesystem>

#include "engine/errors.hpp"
#include "engine/safetensors.hpp"

namespace moetrace::engine {

// Writes config.json, generation_config.json, model.safetensors, tokenizer.json and
// tokenizer_config.json into `folder`, and creates it if needed. A seed gives the same bytes on
// every machine; float32 and bfloat16 hold the same numbers. kCantWrite if the folder holds files
// that this function did not write.
Result<void> init_model(const std::filesystem::path& folder, uint64_t seed, Dtype dtype);

}  // namespace moetrace::engine
