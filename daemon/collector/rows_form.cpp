#include "daemon/collector/rows_form.hpp"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "shm/abi.h"
#include "trace/arrow_format.hpp"

namespace moetrace {

std::string_view name_of(RowWeights weights) {
  switch (weights) {
    case RowWeights::kFloat32:
      return "float32";
    case RowWeights::kFloat16:
      return "float16";
    case RowWeights::kNone:
      break;
  }
  return "";
}

std::string meta_with_rows(std::string_view meta, const RowsForm& form,
                           std::string_view rows_file) {
  nlohmann::ordered_json rows;
  rows["file"] = rows_file;
  if (form.weights == RowWeights::kNone) {
    rows["weights"] = nullptr;
  } else {
    rows["weights"] = name_of(form.weights);
  }
  if (form.wide) rows["wide"] = true;
  // Before the brace and the newline at the end.
  std::string line(meta.substr(0, meta.size() - 2));
  line += ",\"rows\":";
  line += rows.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return line + "}\n";
}

std::optional<RowsKey> rows_key(std::string_view meta) {
  const auto json = nlohmann::json::parse(meta, nullptr, false);
  if (!json.is_object() || !json.contains("rows")) return std::nullopt;
  RowsKey key;
  try {
    const auto& rows = json.at("rows");
    key.form.top_k = json.at("top_k").get<std::uint32_t>();
    key.form.num_experts = json.at("num_experts").get<std::uint32_t>();
    key.form.wide = rows.value("wide", false);
    const auto& weights = rows.at("weights");
    if (weights.is_null()) {
      key.form.weights = RowWeights::kNone;
    } else {
      key.form.weights = weights == "float16" ? RowWeights::kFloat16 : RowWeights::kFloat32;
      if (weights != name_of(key.form.weights)) return key;
    }
    if (key.form.top_k < 1 || key.form.top_k > MOETRACE_MAX_TOP_K || key.form.num_experts < 1 ||
        key.form.num_experts > MOETRACE_MAX_EXPERTS)
      return key;
    const auto file = rows.at("file").get<std::string>();
    if (file.find('/') == std::string::npos && file != "." && file != "..") key.file = file;
  } catch (const nlohmann::json::exception&) {
  }
  return key;
}

std::string rows_path(const std::string& lines_path) {
  namespace fs = std::filesystem;
  // A renamed file may have more after it: trace.jsonl.1.
  constexpr std::string_view kLines = ".jsonl";
  const fs::path path(lines_path);
  std::string name = path.filename().string();
  const std::size_t at = name.rfind(kLines);
  if (at == std::string::npos) return fs::path(path).replace_extension(arrow::kExtension).string();
  name.replace(at, kLines.size(), arrow::kExtension);
  return fs::path(path).replace_filename(name).string();
}

}  // namespace moetrace
