#include "engine/generate.hpp"

#include <algorithm>
#include <utility>

namespace moetrace::engine {

namespace {

// Maximum rows of a prefill pass; bounds the memory of the activations. A longer prompt gets a pass
// of its own.
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
    if (prompts[i].empty()) return bad_prompt(i, "no tokens; leave the prompt out");
    const auto size = static_cast<int64_t>(prompts[i].size());
    if (size + options.max_new_tokens > config.max_positions) {
      return bad_prompt(i, std::to_string(size) + " tokens plus " +
                               std::to_string(options.max_new_tokens) +
                               " new ones exceed the model's " +
                               std::to_string(config.max_positions) + " positions; " +
                               (size < config.max_positions
                                    ? "use --max-new-tokens " +
                                          std::to_string(config.max_positions - size) + " or less"
                                    : std::string("shorten the prompt")));
    }
    for (const int64_t token : prompts[i]) {
      if (token < 0 || token >= config.vocab_size) {
        return bad_prompt(i, "token " + std::to_string(token) +
                                 " is outside the model's vocabulary of " +
                                 std::to_string(config.vocab_size) +
                                 " tokens; use the tokenizer.json that belongs to the model");
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

// Takes the next prompts, as many as the batch and one pass have room for.
Result<std::vector<Generation::Request>> Generation::admit() {
  std::vector<Request> entering;
  int64_t rows = 0;
  while (next_prompt_ < prompts_.size() &&
         static_cast<int64_t>(live_.size() + entering.size()) < options_.batch) {
    const auto prompt_rows = static_cast<int64_t>(prompts_[next_prompt_].size());
    if (!entering.empty() && rows + prompt_rows > kPromptRows) break;
    // The model never reads the last generated token, so the cache needs no position for it.
    auto cache = model_->new_cache(prompt_rows + options_.max_new_tokens - 1);
    if (!cache) {
      // give_up() ends the live requests in the trace, and these have begun there.
      for (const Request& request : entering) live_.push_back(request);
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

// Runs one pass over `requests`: the whole prompt of a new request, the latest token of any other.
// Removes the requests that end.
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

// Adds a token to its request. Returns true if the request ends.
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
