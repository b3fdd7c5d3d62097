// Model weights in safetensors files: one file, or shards with an index. The files are mapped, and
// tensors are views into them.
//
// The format: the length of the header (8 bytes, little-endian), the header (JSON), the data.
// Offsets count from the start of the data.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/errors.hpp"
#include "engine/files.hpp"

namespace moetrace::engine {

enum class Dtype { kFloat32, kBfloat16, kFloat16, kOther };

std::string_view dtype_name(Dtype dtype);  // as config.json spells it
size_t dtype_bytes(Dtype dtype);           // 0 for kOther

struct TensorView {
  Dtype dtype = Dtype::kOther;
  std::string dtype_text;  // as the file spells it
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;  // may be unaligned for its dtype
};

// One mapped file.
class SafetensorsFile {
 public:
  // kNotFound if the file can't be read. kBadFile if the header is wrong, or the file is shorter
  // than its header says.
  static Result<SafetensorsFile> open(const std::filesystem::path& path);

  const std::map<std::string, TensorView, std::less<>>& tensors() const { return tensors_; }

 private:
  SafetensorsFile(FileMap map, std::map<std::string, TensorView, std::less<>> tensors)
      : map_(std::move(map)), tensors_(std::move(tensors)) {}
  FileMap map_;
  std::map<std::string, TensorView, std::less<>> tensors_;
};

// All weights of a model folder.
class Checkpoint {
 public:
  // Opens model.safetensors, or else the shards that model.safetensors.index.json names.
  static Result<Checkpoint> open(const std::filesystem::path& folder);

  // nullptr if the checkpoint lacks the tensor.
  const TensorView* find(std::string_view name) const;
  // The tensor, never nullptr. kBadModel if it is missing or has another shape than `shape`, which
  // the config implies; kUnsupported if its dtype is kOther.
  Result<const TensorView*> require(const std::string& name,
                                    const std::vector<int64_t>& shape) const;
  // Bytes of all tensors if they were float32.
  uint64_t float32_bytes() const;

 private:
  std::vector<SafetensorsFile> files_;
  std::map<std::string, TensorView, std::less<>> tensors_;
};

// For writing: the length word and the header, padded to 8 bytes, of a file that holds `tensors` in
// this order without gaps.
struct TensorEntry {
  std::string name;
  Dtype dtype;
  std::vector<int64_t> shape;
};
std::string safetensors_header(std::span<const TensorEntry> tensors);

}  // namespace moetrace::engine
