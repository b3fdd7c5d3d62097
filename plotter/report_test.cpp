#include "plotter/report.hpp"

#include <filesystem>
#include <iterator>

#include "plotter/test_scenes.hpp"
#include "trace/test_files.hpp"

namespace moetrace::plot {
namespace {

using trace::read_bytes;
using trace::TestFolder;

TEST(Report, WritesEveryFileAndNoOther) {
  const TestFolder folder;
  const std::string out = folder.at("deep/er");
  const auto written =
      write_report(make_load(60, 3, 100), {.folder = out, .layer = 2, .format = Format::kSvg});
  ASSERT_TRUE(written) << written.error().message;
  EXPECT_EQ(*written, (std::vector<std::string>{
                          out + "/expert_hist.svg", out + "/expert_heatmap.svg",
                          out + "/expert_hist_layer2.svg", out + "/expert_metrics.json"}));
  EXPECT_TRUE(read_bytes(out + "/expert_hist.svg").starts_with("<?xml"));
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(out)) {
    files += entry.is_regular_file() ? 1 : 0;
  }
  EXPECT_EQ(files, 4U);
}

TEST(Report, SaysWhyItCannotWrite) {
  const TestFolder folder;
  const ExpertLoad load = make_load(8, 3, 100);
  const auto error_of = [&](const ReportOptions& options) {
    const auto written = write_report(load, options);
    return written ? "" : written.error().message;
  };
  EXPECT_EQ(error_of({.folder = folder.at("out"), .layer = 7}),
            "layer 7 is not in the trace, which has layers 0–2");
  const std::string file = folder.write("file", "");
  EXPECT_EQ(error_of({.folder = file}), file + ": Not a directory");
  // A folder has the name of a picture: no half-written file stays.
  std::filesystem::create_directories(folder.at("out/expert_hist.png"));
  EXPECT_EQ(error_of({.folder = folder.at("out")}),
            folder.at("out/expert_hist.png") + ": Is a directory");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.at("out")), {}), 1);
}

TEST(Report, AskedForALayerOfATraceWithoutLayersAdvisesAgainstIt) {
  const TestFolder folder;
  const auto written = write_report(make_load(8, 0, 0), {.folder = folder.at("out"), .layer = 0});
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().message, "layer 0 is not in the trace, which has no layers");
  EXPECT_EQ(trace::what_to_try(written.error()), "leave --layer out");
}

}  // namespace
}  // namespace moetrace::plot
