#include "daemon/cli/log_survey.hpp"

#include <filesystem>
#include <set>

namespace moetrace::cli {

std::optional<trace::Meta> survey(const std::string& file, const trace::ReadOptions& options) {
  std::error_code failed;
  if (!std::filesystem::is_regular_file(file, failed)) return std::nullopt;
  auto reader = trace::TraceReader::open(file, options);
  if (!reader || !reader->meta().plain()) return std::nullopt;
  std::set<std::uint16_t> layers;
  for (;;) {
    const auto line = reader->next();
    if (!line || *line == nullptr) break;
    const auto* route = std::get_if<trace::Route>(&(*line)->content);
    if (route != nullptr) layers.insert(route->layer);
  }
  trace::Meta meta = reader->meta();
  layers.insert(meta.layers_logged.begin(), meta.layers_logged.end());
  meta.layers_logged.assign(layers.begin(), layers.end());
  return meta;
}

}  // namespace moetrace::cli
