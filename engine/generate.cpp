#include "engine/generate.hpp"

#include <algorithm>
#include <utility>

namespace moetrace::engine {

namespace {

// Rows of prompts in one pass, unless a single prompt is longer: bounds the memory of the
// activations.
constexpr int64_t kPromptRows = 2048;

Error bad_prompt(size_t index, const std::string& why) {
  return {ErrorCode::kBadPrompt, "prompt " + std::to_string(index) + ": " + why};
}

}  // namespace

Generation::Generation(const Model& model, std::vector<std::vector<int64_t>> prompts,
                       const GenerateOptions& options, Tracer* tracer)
    : model_(&model), prompts_(std::move(prompts)), options_(options), tracer_(tracer) {
  for (size_t i = 0; i < prompts_.size(); ++i) {
    completions_.push_back(
        {"r" + std::to_string(i), static_cast<int64_t>(prompts_[i].size()), {}, ""});
  }
}

Result<Generation> Generation::start(const Model& model, std::vector<std::vector<int64_t>> prompts,
                                     const GenerateOptions& options, Tracer* tracer) {
  const ModelConfig& config = model.config();
  for (size_t i = 0; i < prompts.size(); ++i) {
    if (prompts[i].empty()) return bad_prompt(i, "it has no tokens; leave it out");
    const auto size = static_cast<int64_t>(prompts[i].size());
    if (size + options.max_new_tokens > config.max_positions) {
      return bad_prompt(
          i, std::to_string(size) + " tokens and " + std::to_string(options.max_new_tokens) +
                 " new ones are more than the model's " + std::to_string(config.max_positions) +
                 " positions; use fewer --max-new-tokens");
    }
    for (const int64_t token : prompts[i]) {
      if (token < 0 || token >= config.vocab_size) {
        return bad_prompt(
            i, "token " + std::to_string(token) + " is outside the model's vocabulary of " +
                   std::to_string(config.vocab_size) + "; does the tokenizer belong to the model?");
      }
    }
  }
  return Generation(model, std::move(prompts), options, tracer);
}

Result<void> Generation::step() {
  auto entering = admit();
  if (!entering) return give_up(), entering.error();
  if (entering->empty()) {
    if (auto ran = run(live_); !ran) return give_up(), ran.error();
    return {};
  }
  auto ran = run(*entering);
  live_.insert(live_.end(), std::make_move_iterator(entering->begin()),
               std::make_move_iterator(entering->end()));
  if (!ran) return give_up(), ran.error();
  return {};
}

// The next prompts that the batch and a pass have room for.
Result<std::vector<Generation::Request>> Generation::admit() {
  std::vector<Request> entering;
  int64_t rows = 0;
  while (next_prompt_ < prompts_.size() &&
         static_cast<int64_t>(live_.size() + entering.size()) < options_.batch) {
    const auto prompt_rows = static_cast<int64_t>(prompts_[next_prompt_].size());
    if (!entering.empty() && rows + prompt_rows > kPromptRows) break;
    // The last generated token is never fed back, so its position needs no room.
    auto cache = model_->new_cache(prompt_rows + options_.max_new_tokens - 1);
    if (!cache) {
      for (const Request& request : entering)
        live_.push_back(request);  // so that their end is told
      return in_context("prompt " + std::to_string(next_prompt_), cache.error());
    }
    Request request{next_prompt_, std::move(*cache)};
    if (tracer_ != nullptr)
      request.traced = tracer_->begin_request(completions_[request.index].req_id, prompt_rows);
    entering.push_back(std::move(request));
    rows += prompt_rows;
    ++next_prompt_;
  }
  return entering;
}

// One pass over `requests`: all tokens of each that have no position yet. Those that end are taken
// out.
Result<void> Generation::run(std::vector<Request>& requests) {
  Pass pass;
  std::vector<moetrace_span> spans;
  for (const Request& request : requests) {
    const size_t before = pass.tokens.size();
    if (request.positions == 0) {
      pass.tokens.insert(pass.tokens.end(), prompts_[request.index].begin(),
                         prompts_[request.index].end());
    } else {
      pass.tokens.push_back(completions_[request.index].tokens.back());
    }
    const auto rows = static_cast<int64_t>(pass.tokens.size() - before);
    pass.spans.push_back({request.cache.get(), request.positions, rows});
    spans.push_back({request.traced, static_cast<uint64_t>(request.positions),
                     static_cast<uint32_t>(before), static_cast<uint32_t>(rows)});
  }
  if (tracer_ != nullptr) tracer_->announce(static_cast<uint32_t>(pass.tokens.size()), spans);
  auto next = model_->next_tokens(pass, tracer_);
  if (!next) {
    if (tracer_ != nullptr) tracer_->abort_pass();
    return next.error();
  }
  for (size_t i = 0; i < requests.size(); ++i) requests[i].positions += pass.spans[i].rows;
  size_t i = 0;
  std::erase_if(requests, [&](Request& request) { return take(request, (*next)[i++]); });
  return {};
}

// Adds a token to its request; true if that ends it.
bool Generation::take(Request& request, int64_t token) {
  Completion& completion = completions_[request.index];
  completion.tokens.push_back(token);
  ++tokens_generated_;
  const std::vector<int64_t>& ends = model_->config().end_tokens;
  const auto count = static_cast<int64_t>(completion.tokens.size());
  if (std::find(ends.begin(), ends.end(), token) != ends.end()) {
    completion.status = "stop";
  } else if (count == options_.max_new_tokens) {
    completion.status = "length";
  } else {
    return false;
  }
  if (tracer_ != nullptr) tracer_->end_request(request.traced, count, completion.status.c_str());
  return true;
}

void Generation::give_up() {
  for (const Request& request : live_) {
    Completion& completion = completions_[request.index];
    completion.status = "error";
    if (tracer_ != nullptr) {
      tracer_->end_request(request.traced, static_cast<int64_t>(completion.tokens.size()), "error");
    }
  }
  live_.clear();
  next_prompt_ = prompts_.size();
}

}  // namespace moetrace::engine
