#include "daemon/collector/options.hpp"

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/names.hpp"
#include "common/usage.hpp"
#include "daemon/collector/output_template.hpp"
#include "daemon/endpoint_text.hpp"
#include "shm/layer_mask.hpp"
#include "shm/segment_names.hpp"

namespace moetrace {
namespace {

Error bad(const std::string& why) {
  return {ErrorCode::kBadArgument, why};
}

// Reads the configuration file: a JSON object. Its keys are the long options with '_' for '-'.
std::optional<Error> read_config(const std::string& path, CollectorOptions& options,
                                 std::string& layers) {
  std::ifstream file(path);
  if (!file) return bad("config " + path + ": can't read it; check --config");
  const nlohmann::json json = nlohmann::json::parse(file, nullptr, false, true);
  if (!json.is_object())
    return bad("config " + path +
               ": not a JSON object; write {\"output_dir\": \"/var/lib/moetrace\"}");
  for (const auto& item : json.items()) {
    const std::string& key = item.key();
    const nlohmann::json& value = item.value();
    const auto text = [&](std::string& to) {
      if (!value.is_string()) return false;
      to = value.get<std::string>();
      return true;
    };
    bool fits = true;
    if (key == "session") {
      fits = text(options.session);
    } else if (key == "directory") {
      fits = text(options.directory);
    } else if (key == "output_dir") {
      fits = text(options.output_dir);
    } else if (key == "output") {
      fits = text(options.output);
    } else if (key == "plot_dir") {
      fits = text(options.plot_dir);
    } else if (key == "layers") {
      fits = text(layers);
    } else if (key == "once") {
      fits = value.is_boolean();
      if (fits) options.once = value.get<bool>();
    } else if (key == "quiet") {
      fits = value.is_boolean();
      if (fits) options.quiet = value.get<bool>();
    } else if (key == "publish") {
      fits = value.is_array();
      for (const auto& endpoint : value) {
        fits = fits && endpoint.is_string();
        if (fits) options.publish.push_back(endpoint.get<std::string>());
      }
    } else {
      return bad("config " + path + ": unknown key \"" + key +
                 "\"; see moetraced --help for the names");
    }
    if (!fits)
      return bad(
          "config " + path + ": \"" + key +
          "\" has the wrong type; \"publish\" is a list, \"once\" and \"quiet\" are booleans, "
          "every other value is a text");
  }
  return std::nullopt;
}

}  // namespace

Result<ParsedOptions> parse_collector_options(int argc, const char* const* argv) {
  CLI::App app("moetraced: writes the rings of a session to trace files, ZeroMQ and pictures",
               "moetraced");
  app.set_version_flag("--version", "moetraced " MOETRACE_VERSION);
  CollectorOptions given;
  std::string config;
  std::string layers;
  std::string rows = "json";
  std::string weights = "float32";
  std::string compress = "fast";
  app.add_option("--config", config, "JSON file with the same settings (output_dir, publish, ...)");
  auto* session = app.add_option(
      "--session", given.session,
      "collect the rings of this session (default: $MOETRACE_SESSION, else \"default\")");
  auto* directory =
      app.add_option("--directory", given.directory,
                     "the ring directory; without it, $MOETRACE_DIR, /run/moetrace or /dev/shm");
  auto* output_dir = app.add_option(
      "--output-dir", given.output_dir,
      "write <trace id>.jsonl here (default: $STATE_DIRECTORY, else the current directory)");
  auto* output =
      app.add_option("--output", given.output,
                     "write the trace to this file; other ranks go to <name>.rank1.jsonl, ...");
  output_dir->excludes(output);
  auto* publish =
      app.add_option("--publish", given.publish,
                     "publish on this ZeroMQ endpoint; repeat it for more; none: publish nothing")
          ->take_all();
  auto* plot_dir = app.add_option("--plot-dir", given.plot_dir,
                                  "draw each ended trace into <plot-dir>/<trace id>/");
  auto* layers_option = app.add_option(
      "--layers", layers, "write only these layers, such as 0,5-7; the others count as filtered");
  app.add_option("--rows", rows,
                 "where rows go: json, into the trace's lines; arrow, into <trace>.arrows beside it");
  app.add_option("--weights", weights, "with --rows arrow: float32, float16 or none");
  app.add_option("--compress", compress, "with --rows arrow: fast, small, lz4 or none");
  app.add_flag("--once", given.once, "end when the first trace has ended");
  app.add_flag("--quiet", given.quiet,
               "print only errors and warnings, not when a trace begins or ends");
  app.add_option("--ready-fd", given.ready_fd,
                 "write a line \"ready ENDPOINT...\" to this descriptor when ready, then a line "
                 "\"trace PATH\" for each trace file that is begun or continued")
      ->group("")
      ->check(command_line::integer<int>(0));
  try {
    command_line::parse(app, {argv + 1, argv + argc});
  } catch (const CLI::CallForHelp&) {
    return ParsedOptions{{}, app.help()};
  } catch (const CLI::CallForVersion&) {
    return ParsedOptions{{}, app.version() + "\n"};
  } catch (const CLI::ParseError& error) {
    return bad(command_line::usage_line(app, error));
  }

  CollectorOptions options;
  options.once = given.once;
  options.ready_fd = given.ready_fd;
  // A descriptor comes from a program, which reads there that we are ready.
  options.quiet = given.quiet || given.ready_fd >= 0;
  if (const char* set = std::getenv("MOETRACE_SESSION"); set != nullptr && *set != '\0')
    options.session = set;
  if (const char* state = std::getenv("STATE_DIRECTORY"); state != nullptr && *state != '\0')
    options.output_dir = state;
  std::string configured_layers;
  if (!config.empty()) {
    if (auto error = read_config(config, options, configured_layers)) return *error;
    options.once = options.once || given.once;
    options.quiet = options.quiet || given.quiet || given.ready_fd >= 0;
  }
  if (session->count() > 0) options.session = given.session;
  if (directory->count() > 0) options.directory = given.directory;
  if (output_dir->count() > 0) {
    options.output_dir = given.output_dir;
    options.output.clear();
  }
  if (output->count() > 0) options.output = given.output;
  if (publish->count() > 0) options.publish = given.publish;
  if (plot_dir->count() > 0) options.plot_dir = given.plot_dir;
  if (layers_option->count() > 0) configured_layers = layers;

  if (rows != "json" && rows != "arrow")
    return bad("rows '" + rows + "': expected json or arrow");
  options.arrow_rows = rows == "arrow";
  if (weights == "float16") options.weights = RowWeights::kFloat16;
  else if (weights == "none") options.weights = RowWeights::kNone;
  else if (weights != "float32") return bad("weights '" + weights + "': expected float32, float16 or none");
  if (compress == "small") options.compression = RowCompression::kSmall;
  else if (compress == "lz4") options.compression = RowCompression::kLz4;
  else if (compress == "none") options.compression = RowCompression::kNone;
  else if (compress != "fast") return bad("compress '" + compress + "': expected fast, small, lz4 or none");

  if (options.directory.empty()) options.directory = default_ring_directory();
  if (!is_session_name(options.session)) {
    return bad("session '" + options.session +
               "': not a session name; use 1 to 64 letters, digits, '-' and '_'");
  }
  if (const std::string why = publish_error(options.publish); !why.empty())
    return bad((publish->count() > 0 || config.empty() ? "" : "config " + config + ": ") + why);
  for (const std::string& name : {options.output, options.output_dir}) {
    if (const std::string why = template_error(name); !why.empty())
      return bad("output '" + name + "': " + why);
  }
  if (!configured_layers.empty()) {
    const auto mask = parse_layers(configured_layers, MOETRACE_MAX_LAYERS);
    if (!mask) return bad("layers '" + configured_layers + "': not a list of layers; write 0,5-7");
    options.layers = *mask;
  }
  return ParsedOptions{options, std::nullopt};
}

}  // namespace moetrace
