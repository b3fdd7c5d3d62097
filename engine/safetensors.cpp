#include "engine/safetensors.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

namespace moetrace::engine {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr uint64_t kLengthBytes = 8;               // the length word before the header
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr uint64_t kMaxElements = uint64_t{1} << 48;

struct DtypeInfo {
  std::string_view in_file;
  std::string_view in_config;
  Dtype dtype;
  size_t bytes;
};
constexpr std::array<DtypeInfo, 3> kDtypes = {{{"F32", "float32", Dtype::kFloat32, 4},
                                               {"BF16", "bfloat16", Dtype::kBfloat16, 2},
                                               {"F16", "float16", Dtype::kFloat16, 2}}};

using TensorMap = std::map<std::string, TensorView, std::less<>>;

Error bad(const std::string& what) {
  return {ErrorCode::kBadFile, what};
}

// Reads a shape and the product of its sizes. False if it is not a list of sizes, or too large.
bool read_shape(const json& value, std::vector<int64_t>& shape, uint64_t& elements) {
  if (!value.is_array()) return false;
  elements = 1;
  for (const json& size : value) {
    if (!size.is_number_unsigned()) return false;
    const auto count = size.get<uint64_t>();
    if (count > kMaxElements || __builtin_mul_overflow(elements, count, &elements)) return false;
    shape.push_back(static_cast<int64_t>(count));
  }
  return elements <= kMaxElements;
}

Result<TensorView> read_tensor(const json& entry, std::span<const std::byte> data) {
  if (!entry.is_object() || !entry.contains("dtype") || !entry["dtype"].is_string() ||
      !entry.contains("shape") || !entry.contains("data_offsets")) {
    return bad("expected an object with dtype, shape and data_offsets");
  }
  TensorView view;
  view.dtype_text = entry["dtype"].get<std::string>();
  size_t item_bytes = 0;
  for (const DtypeInfo& info : kDtypes) {
    if (info.in_file == view.dtype_text) {
      view.dtype = info.dtype;
      item_bytes = info.bytes;
    }
  }
  uint64_t elements = 0;
  if (!read_shape(entry["shape"], view.shape, elements))
    return bad("bad shape, expected a list of sizes with at most 2^48 elements in all");
  const json& offsets = entry["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
      !offsets[1].is_number_unsigned()) {
    return bad("bad data_offsets, expected a pair of integers >= 0");
  }
  const auto begin = offsets[0].get<uint64_t>();
  const auto end = offsets[1].get<uint64_t>();
  if (begin > end)
    return bad("its data begins at byte " + std::to_string(begin) + ", but ends at byte " +
               std::to_string(end));
  if (end > data.size()) {
    return bad("its data ends at byte " + std::to_string(end) + ", but the file holds only " +
               std::to_string(data.size()) + " bytes of data: it is truncated");
  }
  // The size of an unknown type is unknown. Checkpoint::require() refuses the tensor if the model
  // uses it.
  if (item_bytes != 0 && end - begin != elements * item_bytes) {
    return bad("has " + std::to_string(end - begin) + " bytes, but its shape and dtype need " +
               std::to_string(elements * item_bytes));
  }
  view.bytes = data.subspan(begin, end - begin);
  return view;
}

Result<void> check_overlap(const TensorMap& tensors) {
  std::vector<std::pair<std::span<const std::byte>, const std::string*>> ranges;
  for (const auto& [name, view] : tensors) {
    if (!view.bytes.empty()) ranges.emplace_back(view.bytes, &name);
  }
  std::sort(ranges.begin(), ranges.end(),
            [](const auto& a, const auto& b) { return a.first.data() < b.first.data(); });
  for (size_t i = 1; i < ranges.size(); ++i) {
    const auto& before = ranges[i - 1].first;
    if (before.data() + before.size() > ranges[i].first.data()) {
      return bad("tensors " + *ranges[i - 1].second + " and " + *ranges[i].second + " overlap");
    }
  }
  return {};
}

Result<TensorMap> read_header(std::span<const std::byte> bytes) {
  if (bytes.size() < kLengthBytes)
    return bad(std::to_string(bytes.size()) + " bytes are too short for a safetensors file");
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  if (length > kMaxHeaderBytes)
    return bad("header length " + std::to_string(length) + " exceeds the format's limit of " +
               std::to_string(kMaxHeaderBytes) + ", so this is not a safetensors file");
  if (length > bytes.size() - kLengthBytes)
    return bad("the file ends inside its header of " + std::to_string(length) +
               " bytes: it is truncated");
  const auto* text = reinterpret_cast<const char*>(bytes.data() + kLengthBytes);
  const json header = json::parse(text, text + length, nullptr, /*allow_exceptions=*/false);
  if (!header.is_object())
    return bad("its header is not a JSON object, so this is not a safetensors file");
  TensorMap tensors;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    auto view = read_tensor(entry, bytes.subspan(kLengthBytes + length));
    if (!view) return in_context("tensor " + name, view.error());
    tensors.emplace(name, std::move(*view));
  }
  if (auto checked = check_overlap(tensors); !checked) return checked.error();
  return tensors;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (const int64_t size : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  return text + "]";
}

}  // namespace

std::string_view dtype_name(Dtype dtype) {
  for (const DtypeInfo& info : kDtypes) {
    if (info.dtype == dtype) return info.in_config;
  }
  return "other";
}

size_t dtype_bytes(Dtype dtype) {
  for (const DtypeInfo& info : kDtypes) {
    if (info.dtype == dtype) return info.bytes;
  }
  return 0;
}

Result<SafetensorsFile> SafetensorsFile::open(const fs::path& path) {
  auto map = FileMap::open(path);
  if (!map) return map.error();
  auto tensors = read_header(map->bytes());
  if (!tensors) return in_context(shown(path), tensors.error(), kDownloadAgain);
  return SafetensorsFile(std::move(*map), std::move(*tensors));
}

Result<Checkpoint> Checkpoint::open(const fs::path& folder) {
  Checkpoint checkpoint;
  const fs::path single = folder / "model.safetensors";
  const fs::path index_path = folder / "model.safetensors.index.json";
  std::error_code ignored;
  if (fs::exists(single, ignored)) {
    auto file = SafetensorsFile::open(single);
    if (!file) return file.error();
    checkpoint.tensors_ = file->tensors();
    checkpoint.files_.push_back(std::move(*file));
    return checkpoint;
  }
  if (!fs::exists(index_path, ignored)) {
    return Error{ErrorCode::kNotFound,
                 shown(folder) +
                     ": expected model.safetensors or model.safetensors.index.json, found neither; "
                     "check that the download is complete"};
  }
  auto index = read_json(index_path);
  if (!index) return index.error();
  if (!index->is_object() || !index->contains("weight_map") ||
      !(*index)["weight_map"].is_object()) {
    return in_context(shown(index_path), bad("expected an object with a weight_map"),
                      kDownloadAgain);
  }
  std::map<std::string, size_t> opened;
  for (const auto& [name, shard] : (*index)["weight_map"].items()) {
    if (!shard.is_string())
      return in_context(shown(index_path), bad("tensor " + name + ": expected a file name"),
                        kDownloadAgain);
    const auto shard_name = shard.get<std::string>();
    if (shard_name.empty() || fs::path(shard_name).filename() != shard_name) {
      return in_context(shown(index_path),
                        bad("tensor " + name + " is in '" + shown(shard_name) +
                            "', expected a file name without a folder"),
                        kDownloadAgain);
    }
    if (!opened.contains(shard_name)) {
      std::error_code missing;
      if (!fs::exists(folder / shard_name, missing)) {
        return Error{ErrorCode::kNotFound,
                     shown(folder / shard_name) +
                         ": missing shard of the model; check that the download is complete"};
      }
      auto file = SafetensorsFile::open(folder / shard_name);
      if (!file) return file.error();
      opened.emplace(shard_name, checkpoint.files_.size());
      checkpoint.files_.push_back(std::move(*file));
    }
    const auto& tensors = checkpoint.files_[opened[shard_name]].tensors();
    const auto found = tensors.find(name);
    if (found == tensors.end()) {
      return in_context(shown(folder / shard_name),
                        bad("tensor " + name + " is missing, but the index names it"),
                        kDownloadAgain);
    }
    checkpoint.tensors_.emplace(name, found->second);
  }
  return checkpoint;
}

const TensorView* Checkpoint::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

Result<const TensorView*> Checkpoint::require(const std::string& name,
                                              const std::vector<int64_t>& shape) const {
  const TensorView* view = find(name);
  if (view == nullptr) {
    return Error{
        ErrorCode::kBadModel,
        "weight " + name + " is missing; use the config.json that belongs to these weights"};
  }
  if (view->dtype == Dtype::kOther) {
    return Error{ErrorCode::kUnsupported,
                 "weight " + name + " has dtype " + view->dtype_text +
                     ", which is not supported; save it as F32, BF16 or F16"};
  }
  if (view->shape != shape) {
    return Error{ErrorCode::kBadModel, "weight " + name + " has shape " + shape_text(view->shape) +
                                           ", but config.json implies " + shape_text(shape) +
                                           "; use the config.json that belongs to these weights"};
  }
  return view;
}

uint64_t Checkpoint::float32_bytes() const {
  uint64_t bytes = 0;
  for (const auto& [name, view] : tensors_) {
    if (const size_t item = dtype_bytes(view.dtype); item != 0)
      bytes += view.bytes.size() / item * sizeof(float);
  }
  return bytes;
}

std::string safetensors_header(std::span<const TensorEntry> tensors) {
  nlohmann::ordered_json header = {{"__metadata__", {{"format", "pt"}}}};
  uint64_t offset = 0;
  for (const TensorEntry& tensor : tensors) {
    uint64_t bytes = dtype_bytes(tensor.dtype);
    for (const int64_t size : tensor.shape) bytes *= static_cast<uint64_t>(size);
    std::string_view in_file = "F32";
    for (const DtypeInfo& info : kDtypes) {
      if (info.dtype == tensor.dtype) in_file = info.in_file;
    }
    header[tensor.name] = {
        {"dtype", in_file}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the data begins on an 8-byte boundary
  const uint64_t length = text.size();
  std::string out(kLengthBytes, '\0');
  std::memcpy(out.data(), &length, kLengthBytes);
  return out + text;
}

}  // namespace moetrace::engine
