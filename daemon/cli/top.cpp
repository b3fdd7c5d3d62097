// moetrace top: a live view of how the load spreads over the experts.
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "common/text.hpp"
#include "daemon/cli/commands.hpp"
#include "daemon/cli/counts_view.hpp"
#include "daemon/cli/segments.hpp"
#include "daemon/cli/stop_flag.hpp"

namespace moetrace::cli {
namespace {

struct TopOptions {
  SegmentFilter filter;
  bool json = false;
  bool once = false;
};

constexpr std::size_t kFileColumns = 80;
constexpr timespec kRefresh{1, 0};

nlohmann::ordered_json to_json(const CollectorSegment& segment, const CountsView& load) {
  nlohmann::ordered_json out;
  out["session"] = segment.name().session;
  out["trace_id"] = segment.name().trace_id;
  out["steps_done"] = load.steps_done;
  out["num_experts"] = segment.map().header().num_experts;
  out["layers"] = nlohmann::ordered_json::array();
  for (const LayerCounts& layer : load.layers) {
    nlohmann::ordered_json one;
    one["layer"] = layer.layer;
    one["selections"] = layer.selections;
    one["max_over_mean"] = layer.selections == 0 ? nlohmann::ordered_json(nullptr)
                                                 : nlohmann::ordered_json(layer.imbalance);
    one["counts"] = layer.counts;
    out["layers"].push_back(std::move(one));
  }
  return out;
}

std::string busiest_text(const LayerCounts& layer) {
  if (layer.selections == 0) return "-";
  std::string text;
  for (std::size_t n = 0; n < std::min(layer.busiest.size(), layer.counts.size()); ++n) {
    const std::uint32_t expert = layer.busiest[n];
    const double share =
        static_cast<double>(layer.counts[expert]) / static_cast<double>(layer.selections);
    text += (n > 0 ? "  " : "") + std::to_string(expert) + ":" + decimals(100 * share, 1);
  }
  return text;
}

struct Screen {
  std::size_t rows;
  std::size_t columns;
};

// Leaves out the last line, which is the cursor's. Nothing if standard output is not a terminal.
std::optional<Screen> screen_size() {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row < 2 || size.ws_col < 2)
    return std::nullopt;
  return Screen{static_cast<std::size_t>(size.ws_row) - 1, size.ws_col};
}

// The columns before a bar.
std::string row_text(const std::string& layer, const std::string& selections,
                     const std::string& imbalance, const std::string& busiest, int busiest_width) {
  char text[256];
  std::snprintf(text, sizeof text, "%5s %13s %8s  %-*s ", layer.c_str(), selections.c_str(),
                imbalance.c_str(), busiest_width, busiest.c_str());
  return text;
}

// A bar is as long as `columns` allows, at most one cell an expert.
std::string to_text(const CollectorSegment& segment, const CountsView& load, std::size_t columns) {
  const moetrace_ring_header& header = segment.map().header();
  const std::string id = segment.name().trace_id + "  ";
  const std::string step = "  step " + grouped(load.steps_done);
  const std::size_t used = id.size() + step.size();
  std::string out = id + shortened(header.model_id, columns > used ? columns - used : 1) + step;
  const std::string experts = std::to_string(header.num_experts);
  // Room for three times "59:12.3" with two blanks between. If one share is 100.0, the others are
  // one character shorter (0.0).
  const auto busiest_width = static_cast<int>(3 * (experts.size() + 5) + 4);
  out += "\n" + row_text("layer", "selections", "max/mean", "busiest expert:%", busiest_width) +
         "load of " + experts + " experts\n";
  for (const LayerCounts& layer : load.layers) {
    const std::string row = row_text(std::to_string(layer.layer), grouped(layer.selections),
                                     layer.selections == 0 ? "-" : decimals(layer.imbalance, 2),
                                     busiest_text(layer), busiest_width);
    out += row;
    if (columns > row.size()) out += counts_bar(layer.counts, columns - row.size());
    out += '\n';
  }
  return out;
}

// Draws over the old text, so that nothing flickers: each line clears the rest of its row, and the
// end clears the rows below.
void draw(const std::string& text, const Screen& screen) {
  std::string drawn = "\033[H";
  for (const char character : fitted(text, screen.rows, screen.columns)) {
    if (character == '\n') drawn += "\033[K";
    drawn += character;
  }
  std::fputs((drawn + "\033[J").c_str(), stdout);
}

// One line for all: on a full screen nothing else may be printed.
std::string unusable_text(const OpenedSegments& opened) {
  const std::size_t count = opened.unusable.size();
  if (count == 0) return "";
  return counted(count, "ring") + " can't be used; moetrace status says why\n";
}

// `picture`: redraw the whole screen. False if standard output can't be written.
bool show(const OpenedSegments& opened, bool json, bool picture) {
  const std::optional<Screen> screen = screen_size();
  const std::size_t columns = screen ? screen->columns : kFileColumns;
  auto list = nlohmann::ordered_json::array();
  std::string text;
  for (const CollectorSegment& segment : opened.segments) {
    const auto load = read_counts(segment);
    // The next round reads it again.
    if (!load) continue;
    if (json)
      list.push_back(to_json(segment, *load));
    else
      text += to_text(segment, *load, columns);
  }
  if (json)
    std::fputs((list.dump() + "\n").c_str(), stdout);
  else if (picture && screen)
    draw(unusable_text(opened) + text, *screen);
  else
    std::fputs(fitted(text, SIZE_MAX, columns).c_str(), stdout);
  std::fflush(stdout);
  return std::ferror(stdout) == 0;
}

Outcome top(const TopOptions& options) {
  const bool terminal = ::isatty(STDOUT_FILENO) == 1 && !options.json && !options.once;
  catch_stop_signals();
  // One snapshot for a file; a stream of JSON lines with --json; a refreshed picture on a terminal.
  const bool once = options.once || (!terminal && !options.json);
  // A stream names each unusable segment once.
  std::set<std::string> said;
  for (bool first = true; !stop_requested(); first = false) {
    const auto opened = open_segments(options.filter);
    const bool none = opened ? opened->segments.empty() : opened.error().exit_code == kNothingThere;
    if (none && !first) {
      std::fprintf(stderr, "moetrace: top: the last trace has ended\n");
      return kOk;
    }
    if (!opened) return opened.error();
    // main() reports a failed write.
    if (!show(*opened, options.json, terminal && !none)) return kOk;
    if (once || none) return report_unusable(*opened);
    if (!terminal) {
      for (const std::string& why : opened->unusable) {
        if (said.insert(why).second) std::fprintf(stderr, "moetrace: %s\n", why.c_str());
      }
    }
    ::nanosleep(&kRefresh, nullptr);
  }
  return kOk;
}

}  // namespace

void add_top(CLI::App& app, Command& chosen) {
  auto* sub = app.add_subcommand("top", "Show live how the load spreads over the experts");
  auto options = std::make_shared<TopOptions>();
  sub->add_option("--session", options->filter.session, "Only this session; without it, all");
  sub->add_option("--trace", options->filter.trace, "Only the traces whose id begins like this");
  add_directory_option(sub, options->filter.directory);
  sub->add_flag("--json", options->json, "Print a JSON list each second, one a line");
  sub->add_flag("--once", options->once, "Print once, then end");
  sub->callback([options, &chosen] { chosen = [options] { return top(*options); }; });
}

}  // namespace moetrace::cli
