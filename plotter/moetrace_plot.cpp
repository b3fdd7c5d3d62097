// moetrace-plot: trace files in, pictures and metrics out.
#include <CLI/CLI.hpp>
#include <iostream>
#include <optional>
#include <string>
#include <vector>

#include "common/program.hpp"
#include "common/usage.hpp"
#include "plotter/bundled_fonts.hpp"
#include "plotter/expert_load.hpp"
#include "plotter/report.hpp"
#include "plotter/scene.hpp"
#include "trace/trace_lines.hpp"

namespace {

using namespace moetrace;

constexpr int kFailed = 1;
constexpr int kUsage = 2;

struct Arguments {
  std::vector<std::string> files;
  std::optional<uint32_t> num_experts;
  plot::ReportOptions report;
};

constexpr auto kFooter =
    "Writes to DIR, each file completely or not at all:\n"
    "  expert_hist.png         selections by expert, summed over all layers\n"
    "  expert_hist_layerN.png  selections by expert in layer N (with --layer N)\n"
    "  expert_heatmap.png      load by layer and expert, and each layer's busiest expert\n"
    "  expert_metrics.json     busiest three, entropy and counts, over all layers and by layer\n";

void say(const std::string& message) {
  std::cerr << "moetrace-plot: " << message << '\n';
}

void fail(const trace::Error& error) {
  say(error.message + "; " + trace::what_to_try(error));
}

// The exit code if the program ends here: after help, a version or a usage error.
std::optional<int> parse(int argc, char** argv, Arguments& arguments) {
  CLI::App app("Draws how a Mixture-of-Experts router spreads its load over the experts.",
               "moetrace-plot");
  app.footer(kFooter);
  app.set_version_flag("--version", "moetrace-plot " MOETRACE_VERSION);
  std::string format = "png";
  app.add_option("FILE", arguments.files,
                 "Trace files, also .gz or .zst; - for standard input. Several files (the ranks of "
                 "a run, or the parts of a trace) are added up")
      ->required();
  app.add_option("-o,--output", arguments.report.folder,
                 "Folder for the pictures; created if missing")
      ->required()
      ->type_name("DIR");
  app.add_option("--layer", arguments.report.layer, "Also draw this layer alone")
      ->type_name("N")
      ->check(command_line::integer<uint32_t>(0, trace::kMaxLayers - 1));
  app.add_option("--format", format, "png, svg or pdf")
      ->type_name("FORMAT")
      ->check(command_line::one_of({"png", "svg", "pdf"}))
      ->capture_default_str();
  app.add_option("--num-experts", arguments.num_experts,
                 "Experts of the model, for logs whose meta line does not state it")
      ->type_name("N")
      ->check(command_line::integer<uint32_t>(1, trace::kMaxExperts));
  try {
    command_line::parse(app, {argv + 1, argv + argc});
  } catch (const CLI::CallForHelp&) {
    std::cout << app.help();
    return 0;
  } catch (const CLI::CallForVersion&) {
    std::cout << app.version() << "\n";
    return 0;
  } catch (const CLI::ParseError& error) {
    say(command_line::usage_line(app, error));
    return kUsage;
  }
  arguments.report.format = *plot::format_named(format);
  return std::nullopt;
}

int run(int argc, char** argv) {
  Arguments arguments;
  if (const auto over = parse(argc, argv, arguments)) return *over;
  const auto load = plot::read_expert_load(arguments.files, arguments.num_experts);
  if (!load) {
    fail(load.error());
    return kFailed;
  }
  for (const std::string& note : load->notes) say(note);
  plot::use_bundled_fonts(load->model_id);
  const auto written = plot::write_report(*load, arguments.report);
  if (!written) {
    fail(written.error());
    return kFailed;
  }
  if (!plot::font_has("·–×…")) {
    std::cerr << "moetrace-plot: the fonts here lack signs of the pictures, so boxes replace them; "
                 "install the package fonts-dejavu-core and run it again\n";
  } else if (!plot::font_has(load->model_id)) {
    std::cerr << "moetrace-plot: the fonts here lack letters of the model's name, so boxes replace "
                 "them; install a font of its script, such as the package fonts-noto-cjk, and run "
                 "it again\n";
  }
  for (const std::string& path : *written) std::cout << path << '\n';
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  command_line::begin_program();
  return command_line::end_program("moetrace-plot", run(argc, argv));
}
