// moetrace start, stop and set: the control words of live segments.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>

#include "common/usage.hpp"
#include "daemon/cli/commands.hpp"
#include "daemon/cli/segments.hpp"
#include "shm/layer_mask.hpp"

namespace moetrace::cli {
namespace {

struct Change {
  SegmentFilter filter;
  std::optional<bool> enabled;
  std::optional<std::string> layers;
  std::optional<std::uint32_t> sample_every;
};

// The lock's holder writes five words and releases it.
constexpr auto kLockPatience = std::chrono::seconds(1);
constexpr auto kLockPoll = std::chrono::milliseconds(1);

std::string default_session() {
  const char* set = std::getenv("MOETRACE_SESSION");
  return set != nullptr && *set != '\0' ? set : "default";
}

// The MoE layers of this segment's model that the text names. Fails if it names any other layer.
boost::system::result<moetrace_layer_mask, Failure> wanted_layers(const CollectorSegment& segment,
                                                                  const std::string& text) {
  const moetrace_ring_header& header = segment.map().header();
  const auto mask = parse_layers(text, header.num_layers);
  const bool all = text == "all";
  if (mask && (all || count_layers(intersect(*mask, header.moe_layers)) == count_layers(*mask))) {
    return intersect(*mask, header.moe_layers);
  }
  return Failure{kUsage, "layers '" + text + "': trace " + segment.name().trace_id +
                             " has the MoE layers " + format_layers(header.moe_layers) +
                             "; give some of these in ascending ranges, such as 0,5-7, or all"};
}

Result<FileLock> lock_words(const CollectorSegment& segment) {
  const auto deadline = std::chrono::steady_clock::now() + kLockPatience;
  while (true) {
    auto lock = segment.lock_control();
    if (lock || lock.error().code != ErrorCode::kInUse ||
        std::chrono::steady_clock::now() > deadline)
      return lock;
    std::this_thread::sleep_for(kLockPoll);
  }
}

std::optional<Failure> apply(const CollectorSegment& segment, const Change& change) {
  const SegmentMap& map = segment.map();
  const auto lock = lock_words(segment);
  if (!lock) return Failure{kFailed, lock.error().message};
  // We hold the lock, so no other process writes. A writer that died in the middle may have left
  // words that can't be read.
  ControlWords words = control_words(segment);
  if (change.enabled) words.enabled = *change.enabled;
  if (change.sample_every) words.sample_every = *change.sample_every;
  if (change.layers) words.layers = *wanted_layers(segment, *change.layers);
  write_control(map, words);
  std::printf("%s: %s\n", segment.name().trace_id.c_str(), describe(words).c_str());
  return std::nullopt;
}

Outcome control(Change change) {
  if (!change.enabled && !change.layers && !change.sample_every) {
    return Failure{kUsage, "set: nothing to set; give --layers or --sample"};
  }
  // --trace alone finds its trace in every session.
  if (!change.filter.session && change.filter.trace.empty())
    change.filter.session = default_session();
  auto opened = open_segments(change.filter);
  if (!opened) return opened.error();
  std::erase_if(opened->segments,
                [](const CollectorSegment& segment) { return !segment.producer_alive(); });
  if (opened->segments.empty() && opened->unusable.empty()) {
    return Failure{
        kNothingThere,
        "control: no producer is alive; start an engine with MOETRACE=1; moetrace status "
        "shows the rings that are left"};
  }
  // All or none: if one model lacks a layer, no segment changes.
  if (change.layers) {
    for (const CollectorSegment& segment : opened->segments) {
      if (const auto layers = wanted_layers(segment, *change.layers); !layers)
        return layers.error();
    }
  }
  for (const CollectorSegment& segment : opened->segments) {
    if (const auto failure = apply(segment, change)) return *failure;
  }
  std::fflush(stdout);
  return report_unusable(*opened);
}

std::shared_ptr<Change> add(CLI::App& app, Command& chosen, const char* name,
                            const char* description, CLI::App** sub) {
  *sub = app.add_subcommand(name, description);
  auto change = std::make_shared<Change>();
  (*sub)->add_option("--session", change->filter.session,
                     "The session; without it, $MOETRACE_SESSION or default");
  (*sub)->add_option("--trace", change->filter.trace,
                     "Only the traces whose id begins like this, in any session");
  add_directory_option(*sub, change->filter.directory);
  (*sub)->callback([change, &chosen] { chosen = [change] { return control(*change); }; });
  return change;
}

}  // namespace

void add_control(CLI::App& app, Command& chosen) {
  CLI::App* sub = nullptr;
  add(app, chosen, "start", "Record again after a stop", &sub)->enabled = true;
  add(app, chosen, "stop", "Record and count nothing until the next start", &sub)->enabled = false;
  const auto change = add(app, chosen, "set", "Choose what running engines record", &sub);
  sub->add_option("--layers", change->layers, "Layers to record: 0,5-7, or all");
  sub->add_option("--sample", change->sample_every, "Record every n-th step; 0: only count")
      ->check(command_line::integer<std::uint32_t>());
}

}  // namespace moetrace::cli
