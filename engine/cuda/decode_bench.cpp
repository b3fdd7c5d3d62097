// moetrace-decode-bench: the time of a decode step with and without tracing, in one table.
//
// The model has random weights in bfloat16. Every sequence gets a context of random tokens. Then
// each repeat runs the same decode steps once in every mode; the order of the modes reverses from
// repeat to repeat. A step is timed as a caller sees it: announcement, inputs, pass, and the tokens
// back on the host. A run ends when the GPU is idle. All modes must give the same tokens. During a
// run, a reader thread drains the ring of each traced mode.
#include <cuda_runtime.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "common/usage.hpp"
#include "engine/cuda/cuda_error.hpp"
#include "engine/cuda/cuda_model.hpp"
#include "engine/cuda/cuda_tracer.hpp"
#include "engine/cuda/json_lines_hook.hpp"
#include "producer/cuda/bench_drain.hpp"

namespace moetrace::engine {
namespace {

constexpr int kExitUsage = 2;  // as moetrace-engine

struct Arguments {
  std::vector<int64_t> batches = {1, 32, 256};
  std::vector<std::string> modes = {"off",   "on",         "in_graph",  "in_line",
                                    "eager", "public_one", "public_all"};
  int64_t repeats = 10;
  int64_t steps = 32;
  int64_t context = 128;
  std::string shape = "full";
};

ModelConfig config_of(const std::string& shape) {
  const bool full = shape == "full";  // Qwen1.5-MoE-A2.7B
  ModelConfig config;
  config.model_id = full ? "random/qwen1.5-moe-a2.7b-shape" : "random/small";
  config.dtype = Dtype::kBfloat16;
  config.vocab_size = full ? 151936 : 1024;
  config.hidden_size = full ? 2048 : 256;
  config.num_layers = 24;
  config.num_heads = config.num_kv_heads = full ? 16 : 4;
  config.head_dim = full ? 128 : 64;
  config.max_positions = 8192;
  config.rope_theta = 1e6;
  config.dense_intermediate_size = full ? 5632 : 512;
  config.moe_intermediate_size = full ? 1408 : 128;
  config.shared_intermediate_size = full ? 5632 : 512;
  config.num_experts = 60;
  config.top_k = 4;
  return config;
}

// One way to run a step, with its hook.
class Mode {
 public:
  Mode(std::string name, const gpu::CudaModel& model, int64_t batch, int64_t context)
      : name_(std::move(name)), directory_(make_directory()) {
    if (name_ == "on") {
      trace(model, batch, context, gpu::CudaTracer::Where::kAfterPass);
    } else if (name_ == "in_graph") {
      trace(model, batch, context, gpu::CudaTracer::Where::kInGraph);
    } else if (name_ == "in_line") {
      trace(model, batch, context, gpu::CudaTracer::Where::kInLine);
    } else if (name_ == "public_one" || name_ == "public_all") {
      json_ = std::make_unique<JsonLinesHook>(directory_ + "/routes.jsonl",
                                              name_ == "public_one" ? 0 : -1);
    } else if (name_ == "eager") {
      eager_ = std::make_unique<Eager>();
    } else if (name_ != "off") {
      throw std::runtime_error("unknown mode '" + name_ + "'; see --help");
    }
  }
  Mode(const Mode&) = delete;
  Mode& operator=(const Mode&) = delete;
  ~Mode() {
    drain_.reset();
    tracer_.reset();
    json_.reset();
    std::filesystem::remove_all(directory_);
  }

  const std::string& name() const { return name_; }
  RouterHook* hook() const {
    if (tracer_ != nullptr) return tracer_.get();
    if (json_ != nullptr) return json_.get();
    return eager_.get();
  }
  void announce(const Pass& pass) {
    const int64_t position = pass.spans.front().first_position;
    if (json_ != nullptr) json_->next_pass(static_cast<int64_t>(pass.spans.size()), position);
    if (tracer_ == nullptr) return;
    for (moetrace_span& span : spans_) span.first_position = static_cast<uint64_t>(position);
    tracer_->announce(static_cast<uint32_t>(spans_.size()), spans_);
    ++announced_;
  }
  std::string totals(int64_t layers) const {
    if (tracer_ == nullptr) return "";
    const uint64_t expected = announced_ * spans_.size() * static_cast<uint64_t>(layers);
    return std::to_string(drain_->records()) + " of " + std::to_string(expected) +
           " records read, " + std::to_string(drain_->dropped()) + " dropped";
  }

 private:
  // Ignores the routing. Makes the pass eager instead of a graph.
  struct Eager final : RouterHook {
    When when() const override { return When::kInEagerPass; }
  };

  static std::string make_directory() {
    char name[] = "/dev/shm/moetrace-decode-bench-XXXXXX";
    if (::mkdtemp(name) == nullptr)
      throw std::runtime_error(std::string(name) + ": can't create the folder: " +
                               std::strerror(errno) + "; free some space in /dev/shm");
    return name;
  }
  void trace(const gpu::CudaModel& model, int64_t batch, int64_t context,
             gpu::CudaTracer::Where where) {
    ::setenv("MOETRACE_DIR", directory_.c_str(), 1);
    int device = 0;
    cudaGetDevice(&device);
    auto tracer = gpu::CudaTracer::open(model.config(), 1234, device, model.stream(), where);
    if (!tracer) throw std::runtime_error(tracer.error().message);
    tracer_ = std::move(*tracer);
    drain_ = std::make_unique<bench::Drain>(directory_);
    for (int64_t row = 0; row < batch; ++row) {
      // The requests never end: the trace is thrown away.
      spans_.push_back({tracer_->begin_request("r" + std::to_string(row), context), 0,
                        static_cast<uint32_t>(row), 1});
    }
  }

  std::string name_;
  std::string directory_;
  std::unique_ptr<Tracer> tracer_;
  std::unique_ptr<bench::Drain> drain_;
  std::vector<moetrace_span> spans_;
  uint64_t announced_ = 0;
  std::unique_ptr<JsonLinesHook> json_;
  std::unique_ptr<Eager> eager_;
};

template <class T>
T value_or_throw(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  return std::move(*result);
}

// Sequences whose context has been computed, ready to decode.
struct PrefilledSequences {
  std::vector<std::shared_ptr<KvCache>> caches;
  std::vector<int64_t> first_tokens;
};

PrefilledSequences prefill(const gpu::CudaModel& model, int64_t batch, const Arguments& arguments) {
  PrefilledSequences made;
  uint64_t random = 1234;
  for (int64_t first = 0; first < batch;) {
    Pass pass;
    do {
      made.caches.push_back(value_or_throw(model.new_cache(arguments.context + arguments.steps)));
      for (int64_t i = 0; i < arguments.context; ++i) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        pass.tokens.push_back(static_cast<int64_t>(random >> 33) % model.config().vocab_size);
      }
      pass.spans.push_back({made.caches.back().get(), 0, arguments.context});
      ++first;
    } while (first < batch && static_cast<int64_t>(pass.tokens.size()) + arguments.context <= 2048);
    for (const int64_t token : value_or_throw(model.next_tokens(pass, nullptr)))
      made.first_tokens.push_back(token);
  }
  return made;
}

struct Run {
  double ms_per_step;
  std::vector<int64_t> tokens;  // of all steps
};

Run run(const gpu::CudaModel& model, const PrefilledSequences& sequences, Mode& mode,
        const Arguments& arguments) {
  Pass pass;
  pass.tokens = sequences.first_tokens;
  for (const auto& cache : sequences.caches) pass.spans.push_back({cache.get(), 0, 1});
  Run run{};
  const auto start = std::chrono::steady_clock::now();
  for (int64_t step = 0; step < arguments.steps; ++step) {
    for (PassSpan& span : pass.spans) span.first_position = arguments.context + step;
    mode.announce(pass);
    pass.tokens = value_or_throw(model.next_tokens(pass, mode.hook()));
    run.tokens.insert(run.tokens.end(), pass.tokens.begin(), pass.tokens.end());
  }
  // Waits for what a hook enqueued after the last pass.
  gpu::check(cudaDeviceSynchronize(), "decode step");
  run.ms_per_step =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count() /
      static_cast<double>(arguments.steps);
  return run;
}

struct Spread {
  double median, low, high;  // low and high are the 10% and 90% quantiles
};
Spread spread_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double part) {
    return values[static_cast<size_t>(part * static_cast<double>(values.size() - 1) + 0.5)];
  };
  return {at(0.5), at(0.1), at(0.9)};
}

bool measure(const gpu::CudaModel& model, int64_t size, const Arguments& arguments) {
  const PrefilledSequences sequences = prefill(model, size, arguments);
  std::vector<std::unique_ptr<Mode>> modes;
  for (const std::string& name : arguments.modes)
    modes.push_back(std::make_unique<Mode>(name, model, size, arguments.context));
  std::vector<std::vector<double>> times(modes.size());
  const Run expected = run(model, sequences, *modes.front(), arguments);
  bool same = true;
  for (auto& mode : modes)  // warms up: captures the graphs
    same &= run(model, sequences, *mode, arguments).tokens == expected.tokens;
  for (int64_t repeat = 0; repeat < arguments.repeats; ++repeat) {
    for (size_t turn = 0; turn < modes.size(); ++turn) {
      const size_t m = repeat % 2 == 0 ? turn : modes.size() - 1 - turn;
      const Run timed = run(model, sequences, *modes[m], arguments);
      times[m].push_back(timed.ms_per_step);
      same &= timed.tokens == expected.tokens;
    }
  }
  for (size_t m = 0; m < modes.size(); ++m) {
    const Spread ms = spread_of(times[m]);
    std::vector<double> percents;  // relative to the first mode of the same repeat
    for (size_t r = 0; r < times[m].size(); ++r)
      percents.push_back((times[m][r] / times[0][r] - 1) * 100);
    const Spread percent = spread_of(percents);
    std::printf("| %5lld | %-10s | %8.4f | %8.4f to %8.4f | %+8.2f%% | %+7.2f to %+7.2f | %s\n",
                static_cast<long long>(size), modes[m]->name().c_str(), ms.median, ms.low, ms.high,
                percent.median, percent.low, percent.high,
                modes[m]->totals(model.config().num_layers).c_str());
  }
  if (!same)
    std::printf("| %5lld | FAILED: the modes gave different tokens\n",
                static_cast<long long>(size));
  std::fflush(stdout);
  return same;
}

int run_all(const Arguments& arguments) {
  const auto model = value_or_throw(
      gpu::CudaModel::random(config_of(arguments.shape), gpu::NumberType::kBfloat16, 1234));
  cudaDeviceProp properties{};
  int device = 0;
  gpu::check(cudaGetDevice(&device), "device");
  gpu::check(cudaGetDeviceProperties(&properties, device), "device properties");
  std::printf(
      "%s; %s shape, bfloat16, random weights; context %lld, %lld steps a run, %lld runs of "
      "each mode, in turns\n"
      "ms/step: median, and 10%% to 90%% of the runs; percent: relative to the first mode, run by "
      "run\n\n",
      properties.name, arguments.shape.c_str(), static_cast<long long>(arguments.context),
      static_cast<long long>(arguments.steps), static_cast<long long>(arguments.repeats));
  std::printf(
      "| batch | mode       |  ms/step |        10%% to 90%%   |   median  |    10%% to 90%%    "
      "| ring\n|-------|------------|----------|----------------------|-----------|----------"
      "----------|-----\n");
  bool same = true;
  for (const int64_t batch : arguments.batches) same &= measure(*model, batch, arguments);
  return same ? 0 : 1;
}

int parse_and_run(int argc, char** argv) {
  CLI::App app("Time of a decode step with and without tracing", "moetrace-decode-bench");
  Arguments arguments;
  app.add_option("--batch", arguments.batches, "Sequences in a step")
      ->delimiter(',')
      ->check(command_line::integer<int64_t>(1, 4096))
      ->capture_default_str();
  app.add_option(
         "--modes", arguments.modes,
         "off: no tracing; on: announcement and records after the pass, one kernel for all layers; "
         "in_graph: announcement before the pass, that kernel in the graph, beside the last "
         "layer's experts; in_line: in the graph, one kernel a layer, between router and experts; "
         "eager: no tracing and no graph; public_one, public_all: one layer, or all layers, "
         "copied to the host and written as JSON lines (fprintf) to a file on tmpfs")
      ->delimiter(',')
      ->check(command_line::one_of(
          {"off", "on", "in_graph", "in_line", "eager", "public_one", "public_all"}))
      ->capture_default_str();
  app.add_option("--repeats", arguments.repeats, "Runs of each mode")
      ->check(command_line::integer<int64_t>(1))
      ->capture_default_str();
  app.add_option("--steps", arguments.steps, "Decode steps of a run")
      ->check(command_line::integer<int64_t>(1))
      ->capture_default_str();
  app.add_option("--context", arguments.context, "Positions of each sequence before the first step")
      ->check(command_line::integer<int64_t>(1, 4096))
      ->capture_default_str();
  app.add_option("--shape", arguments.shape, "Shape of the model: Qwen1.5-MoE-A2.7B, or small")
      ->check(command_line::one_of({"full", "small"}))
      ->capture_default_str();
  try {
    command_line::parse(app, {argv + 1, argv + argc});
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    std::fprintf(stderr, "moetrace-decode-bench: %s\n",
                 command_line::usage_line(app, error).c_str());
    return kExitUsage;
  }
  return run_all(arguments);
}

}  // namespace
}  // namespace moetrace::engine

int main(int argc, char** argv) {
  try {
    return moetrace::engine::parse_and_run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "moetrace-decode-bench: %s\n", error.what());
    return 1;
  }
}
