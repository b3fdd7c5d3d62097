#include "engine/generate_command.hpp"

#include <chrono>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "engine/compare.hpp"
#include "engine/files.hpp"
#include "engine/generate.hpp"
#include "engine/progress.hpp"
#include "engine/prompts.hpp"
#include "engine/tokenizer.hpp"
#include "engine/tracer.hpp"

namespace moetrace::engine {

namespace {

struct Outcome {
  std::vector<Completion> completions;
  std::string timing;   // content of timing.json
  std::string summary;  // the last line on standard error
};

Result<std::vector<std::vector<int64_t>>> encode_all(const Tokenizer& tokenizer,
                                                     const std::vector<std::string>& texts) {
  std::vector<std::vector<int64_t>> prompts;
  for (const std::string& text : texts) {
    auto ids = tokenizer.encode(text);
    if (!ids) {
      return in_context("prompt " + std::to_string(prompts.size()), ids.error(),
                        "change the prompt's text, or leave it out");
    }
    prompts.push_back(std::move(*ids));
  }
  return prompts;
}

// nullptr if the user wants no trace, or if opening it failed: the run then continues untraced. If
// --compare is given, that failure is an error.
Result<std::unique_ptr<Tracer>> open_tracer(const Model& model,
                                            const GenerateArguments& arguments) {
  if (!Tracer::enabled()) return std::unique_ptr<Tracer>();
  auto tracer = model.open_tracer(arguments.seed);
  if (!tracer && !arguments.compare) {
    std::fprintf(stderr, "moetrace-engine: not traced: %s\n", tracer.error().message.c_str());
    return std::unique_ptr<Tracer>();
  }
  return tracer;
}

std::string line(const char* format, auto... values) {
  char text[200];
  std::snprintf(text, sizeof text, format, values...);
  return text;
}

std::string traced_text(const Tracer* tracer) {
  if (tracer == nullptr) return "not traced";
  const moetrace_totals totals = tracer->totals();
  return line("traced: %llu records, %llu dropped",
              static_cast<unsigned long long>(totals.recorded),
              static_cast<unsigned long long>(totals.dropped));
}

Result<Outcome> run_compared(const Model& model, const std::vector<std::vector<int64_t>>& prompts,
                             const GenerateOptions& options, Tracer& tracer) {
  Progress bar("compare", "tokens",
               2 * static_cast<int64_t>(prompts.size()) * options.max_new_tokens);
  auto result = compare(model, prompts, options, tracer, [&](int64_t tokens) { bar.show(tokens); });
  if (!result) return result.error();
  return Outcome{
      result->completions, timing_json(*result),
      line("same text with and without tracing: %.2f s untraced, %.2f s traced (%+.2f%%)",
           result->no_log.wall_time_sec, result->log.wall_time_sec, result->overhead_percent())};
}

Result<Outcome> run_once(const Model& model, const std::vector<std::vector<int64_t>>& prompts,
                         const GenerateOptions& options, Tracer* tracer) {
  auto generation = Generation::start(model, prompts, options, tracer);
  if (!generation) return generation.error();
  Progress bar("generate", "tokens", generation->tokens_planned());
  const auto start = std::chrono::steady_clock::now();
  while (!generation->finished()) {
    if (auto stepped = generation->step(); !stepped) return stepped.error();
    bar.show(generation->tokens_generated());
  }
  if (tracer != nullptr) tracer->settle();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const Timing timing{seconds, generation->tokens_generated()};
  return Outcome{generation->completions(), timing_json(timing, tracer != nullptr),
                 line("%lld tokens for %zu prompts in %.2f s, %s",
                      static_cast<long long>(timing.tokens_generated), prompts.size(), seconds,
                      traced_text(tracer).c_str())};
}

std::string texts_jsonl(const std::vector<Completion>& completions, const Tokenizer& tokenizer) {
  std::string lines;
  for (const Completion& completion : completions) {
    const nlohmann::ordered_json object = {{"req_id", completion.req_id},
                                           {"prompt_tokens", completion.prompt_tokens},
                                           {"generated_tokens", completion.tokens.size()},
                                           {"status", completion.status},
                                           {"text", tokenizer.decode(completion.tokens)},
                                           {"token_ids", completion.tokens}};
    lines += object.dump() + "\n";
  }
  return lines;
}

Result<void> write_outcome(const GenerateArguments& arguments, const Outcome& outcome,
                           const Tokenizer& tokenizer) {
  const std::string texts = texts_jsonl(outcome.completions, tokenizer);
  if (!arguments.output.empty()) {
    if (auto written = write_file(arguments.output, texts); !written) return written.error();
  } else if (std::fwrite(texts.data(), 1, texts.size(), stdout) != texts.size() ||
             std::fflush(stdout) != 0) {
    return Error{ErrorCode::kCantWrite, "standard output: can't write to it; use --output FILE"};
  }
  const std::filesystem::path timing =
      arguments.timing.empty() && arguments.compare ? "timing.json" : arguments.timing;
  return timing.empty() ? Result<void>() : write_file(timing, outcome.timing);
}

}  // namespace

Result<void> generate_command(const GenerateArguments& arguments) {
  if (arguments.compare && !Tracer::enabled()) {
    return Error{ErrorCode::kUsage, "--compare needs tracing, and tracing is off; set MOETRACE=1"};
  }
  const auto texts = read_prompts(arguments.prompts);
  if (!texts) return texts.error();
  const auto model = Model::load(arguments.model, arguments.device);
  if (!model) return model.error();
  const auto tokenizer = Tokenizer::load(arguments.model);
  if (!tokenizer) return tokenizer.error();
  const auto prompts = encode_all(*tokenizer, *texts);
  if (!prompts) return prompts.error();
  const auto tracer = open_tracer(**model, arguments);
  if (!tracer) return tracer.error();
  const GenerateOptions options{.max_new_tokens = arguments.max_new_tokens,
                                .batch = arguments.batch};
  const auto outcome = arguments.compare ? run_compared(**model, *prompts, options, **tracer)
                                         : run_once(**model, *prompts, options, tracer->get());
  if (!outcome) return outcome.error();
  if (*tracer != nullptr && !(*tracer)->failure().empty())
    std::fprintf(stderr, "moetrace-engine: tracing stopped: %s\n", (*tracer)->failure().c_str());
  if (auto written = write_outcome(arguments, *outcome, *tokenizer); !written)
    return written.error();
  std::fprintf(stderr, "moetrace-engine: %s\n", outcome->summary.c_str());
  return {};
}

}  // namespace moetrace::engine
