#include "engine/compare.hpp"

#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

namespace moetrace::engine {

using nlohmann::ordered_json;

namespace {

struct Side {
  Generation generation;
  Tracer* tracer;
  Timing timing;

  Result<void> step() {
    if (generation.finished()) return {};
    const auto start = std::chrono::steady_clock::now();
    auto stepped = generation.step();
    // Wait here, so that the other side's step does not pay for this side's records.
    if (tracer != nullptr) tracer->settle();
    timing.wall_time_sec +=
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    timing.tokens_generated = generation.tokens_generated();
    return stepped;
  }
};

ordered_json side_json(const Timing& timing) {
  return {{"wall_time_sec", timing.wall_time_sec}, {"tokens_generated", timing.tokens_generated}};
}

// The weights are mapped, and the first pass reads them from disk: run it before the measurement.
Result<void> warm_up(const Model& model, const std::vector<std::vector<int64_t>>& prompts) {
  auto generation = Generation::start(model, prompts, {.max_new_tokens = 2, .batch = 8}, nullptr);
  if (!generation) return generation.error();
  while (!generation->finished() && generation->tokens_generated() < 16) {
    if (auto stepped = generation->step(); !stepped) return stepped.error();
  }
  return {};
}

}  // namespace

double Comparison::overhead_percent() const {
  return no_log.wall_time_sec > 0
             ? (log.wall_time_sec - no_log.wall_time_sec) / no_log.wall_time_sec * 100
             : 0;
}

Result<Comparison> compare(const Model& model, const std::vector<std::vector<int64_t>>& prompts,
                           const GenerateOptions& options, Tracer& tracer,
                           const std::function<void(int64_t)>& progress) {
  auto untraced = Generation::start(model, prompts, options, nullptr);
  if (!untraced) return untraced.error();
  auto traced = Generation::start(model, prompts, options, &tracer);
  if (!traced) return traced.error();
  if (auto warmed = warm_up(model, prompts); !warmed) return warmed.error();
  Side off{std::move(*untraced), nullptr, {}};
  Side on{std::move(*traced), &tracer, {}};
  for (bool off_first = true; !off.generation.finished() || !on.generation.finished();
       off_first = !off_first) {
    Side* const order[] = {off_first ? &off : &on, off_first ? &on : &off};
    for (Side* side : order) {
      if (auto stepped = side->step(); !stepped) return stepped.error();
    }
    progress(off.timing.tokens_generated + on.timing.tokens_generated);
  }
  for (size_t i = 0; i < prompts.size(); ++i) {
    const Completion& completion = on.generation.completions()[i];
    if (completion.tokens != off.generation.completions()[i].tokens) {
      return Error{ErrorCode::kFailed, "compare: tracing changed the text of request " +
                                           completion.req_id + "; this is a bug, please report it"};
    }
  }
  return Comparison{off.timing, on.timing, on.generation.completions()};
}

std::string timing_json(const Comparison& comparison) {
  const ordered_json object = {{"no_log", side_json(comparison.no_log)},
                               {"log", side_json(comparison.log)},
                               {"overhead_percent", comparison.overhead_percent()}};
  return object.dump(2) + "\n";
}

std::string timing_json(const Timing& timing, bool traced) {
  const ordered_json object = {{traced ? "log" : "no_log", side_json(timing)}};
  return object.dump(2) + "\n";
}

}  // namespace moetrace::engine
