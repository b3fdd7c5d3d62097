#include "plotter/report.hpp"

#include <filesystem>

#include "plotter/atomic_file.hpp"
#include "plotter/expert_histogram.hpp"
#include "plotter/layer_heatmap.hpp"
#include "plotter/metrics.hpp"
#include "plotter/ticks.hpp"

namespace moetrace::plot {
namespace {

Error no_such_layer(const ExpertLoad& load, uint16_t layer) {
  std::vector<uint16_t> numbers;
  for (const auto& [number, known] : load.layers) numbers.push_back(number);
  const std::string why = "layer " + std::to_string(layer) + " is not in the trace, which has ";
  if (numbers.empty()) return {ErrorCode::kNoLayer, why + "no layers", "leave --layer out"};
  return {ErrorCode::kNoLayer,
          why + (numbers.size() == 1 ? "layer " : "layers ") + layer_ranges(numbers),
          "use one of these layers"};
}

}  // namespace

Result<std::vector<std::string>> write_report(const ExpertLoad& load,
                                              const ReportOptions& options) {
  if (options.layer && !load.layers.contains(*options.layer)) {
    return no_such_layer(load, *options.layer);
  }
  struct Picture {
    std::string name;
    Scene scene;
  };
  std::vector<Picture> pictures{{"expert_hist", lay_out(histogram_of_all_layers(load))},
                                {"expert_heatmap", lay_out_heatmap(load)}};
  if (options.layer) {
    pictures.push_back({"expert_hist_layer" + std::to_string(*options.layer),
                        lay_out(histogram_of_layer(load, *options.layer))});
  }

  if (const auto made = make_folder(options.folder); !made) return made.error();
  const std::filesystem::path folder = options.folder;
  std::vector<std::string> written;
  const auto write = [&](const std::string& name, const std::string& bytes) {
    written.push_back((folder / name).string());
    return write_atomically(written.back(), bytes);
  };
  for (const Picture& picture : pictures) {
    const auto bytes = render(picture.scene, options.format);
    if (!bytes) return bytes.error();
    const std::string name = picture.name + "." + std::string(name_of(options.format));
    if (const auto done = write(name, *bytes); !done) return done.error();
  }
  const auto done = write("expert_metrics.json", metrics_json(load));
  if (!done) return done.error();
  return written;
}

}  // namespace moetrace::plot
