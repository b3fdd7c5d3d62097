// Greedy generation for a list of prompts. Requests enter the batch in order; each stays until it
// ends.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/errors.hpp"
#include "engine/model.hpp"
#include "engine/tracer.hpp"

namespace moetrace::engine {

struct GenerateOptions {
  int64_t max_new_tokens = 128;  // at least 1
  int64_t batch = 32;            // maximum live requests, at least 1
};

struct Completion {
  std::string req_id;  // "r0", "r1", … in the order of the prompts
  int64_t prompt_tokens = 0;
  std::vector<int64_t> tokens;  // generated, an end token included
  // Why it ended: "stop" at an end token, "length" at max_new_tokens, "error". Empty while live.
  std::string status;
};

// Advances by one forward pass a call, so that compare() can run two generations in turns.
class Generation {
 public:
  // `prompts` are token ids. kBadPrompt if a prompt is empty, has an id outside the model's
  // vocabulary, or leaves too few positions for max_new_tokens. `tracer` may be nullptr. Model and
  // tracer must outlive the generation.
  static Result<Generation> start(const Model& model, std::vector<std::vector<int64_t>> prompts,
                                  const GenerateOptions& options, Tracer* tracer);

  bool finished() const { return next_prompt_ == prompts_.size() && live_.empty(); }
  // Runs one pass: a prefill of the requests that enter, or else a decode step of all live
  // requests. An error ends the generation, and all its requests in the trace.
  Result<void> step();

  int64_t tokens_generated() const { return tokens_generated_; }
  // Upper bound of tokens_generated(); an end token ends a request earlier.
  int64_t tokens_planned() const {
    return static_cast<int64_t>(prompts_.size()) * options_.max_new_tokens;
  }
  // One a prompt, in the order of the prompts.
  const std::vector<Completion>& completions() const { return completions_; }

 private:
  struct Request {
    size_t index;  // of the prompt
    std::shared_ptr<KvCache> cache;
    int64_t positions = 0;  // computed so far
    uint64_t traced = 0;    // number in the trace
  };

  Generation(const Model& model, std::vector<std::vector<int64_t>> prompts,
             const GenerateOptions& options, Tracer* tracer);
  Result<std::vector<Request>> admit();
  Result<void> run(std::vector<Request>& requests);
  bool take(Request& request, int64_t token);
  void give_up();

  const Model* model_;
  std::vector<std::vector<int64_t>> prompts_;
  GenerateOptions options_;
  Tracer* tracer_;
  std::vector<Completion> completions_;
  std::vector<Request> live_;
  size_t next_prompt_ = 0;
  int64_t tokens_generated_ = 0;
};

}  // namespace moetrace::engine
