// moetrace-engine: a small inference engine for Qwen2MoeForCausalLM that can trace its routing.
#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <functional>
#include <memory>
#include <string>

#include "common/program.hpp"
#include "common/usage.hpp"
#include "engine/files.hpp"
#include "engine/generate_command.hpp"
#include "engine/init_model.hpp"
#include "engine/prompts.hpp"

namespace moetrace::engine {

namespace {

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;
constexpr int64_t kMostTokens = int64_t{1} << 20;
constexpr int64_t kMostBatch = 4096;

using Command = std::function<Result<void>()>;

void add_init_model(CLI::App& app, Command& chosen) {
  struct Arguments {
    std::string folder;
    uint64_t seed = 1234;
    std::string dtype = "float32";
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command =
      app.add_subcommand("init-model", "Write a small model folder with random weights");
  command->add_option("--seed", arguments->seed, "A seed gives the same bytes on every machine")
      ->check(command_line::integer<uint64_t>())
      ->capture_default_str();
  command->add_option("--dtype", arguments->dtype, "Type of the stored weights")
      ->check(command_line::one_of({"float32", "bfloat16"}))
      ->capture_default_str();
  command->add_option("DIR", arguments->folder, "The folder to create")->required();
  command->callback([arguments, &chosen] {
    chosen = [arguments] {
      const Dtype dtype = arguments->dtype == "bfloat16" ? Dtype::kBfloat16 : Dtype::kFloat32;
      return init_model(arguments->folder, arguments->seed, dtype);
    };
  });
}

void add_prompts(CLI::App& app, Command& chosen) {
  struct Arguments {
    std::string gsm8k;
    int64_t first = 25;
    std::string output;
  };
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("prompts", "Write a prompt file from a data set");
  command->add_option("--gsm8k", arguments->gsm8k, "A GSM8K file (JSON Lines with \"question\")")
      ->required();
  command->add_option("--first", arguments->first, "Number of questions to take")
      ->check(command_line::integer<int64_t>(1, kMostTokens))
      ->capture_default_str();
  command->add_option("-o,--output", arguments->output, "The prompt file to write")->required();
  command->callback([arguments, &chosen] {
    chosen = [arguments]() -> Result<void> {
      const auto prompts = read_gsm8k(arguments->gsm8k, arguments->first);
      if (!prompts) return prompts.error();
      return write_file(arguments->output, join_prompts(*prompts));
    };
  });
}

void add_generate(CLI::App& app, Command& chosen) {
  auto arguments = std::make_shared<GenerateArguments>();
  auto device = std::make_shared<std::string>("cpu");
  CLI::App* command =
      app.add_subcommand("generate", "Continue prompts by greedy decoding (temperature 0)");
  command->footer("MOETRACE=1 records the routing. `moetrace run` sets it and collects the trace.");
  command->add_option("--model", arguments->model, "A Qwen2MoeForCausalLM folder")->required();
  command
      ->add_option("--prompts", arguments->prompts,
                   "The prompt file; an empty line, --- and an empty line separate two prompts")
      ->required();
  command
      ->add_option("--max-new-tokens", arguments->max_new_tokens,
                   "Maximum new tokens of a prompt, an end token included")
      ->check(command_line::integer<int64_t>(1, kMostTokens))
      ->capture_default_str();
  command
      ->add_option("--batch", arguments->batch, "Prompts in a batch; the next enters when one ends")
      ->check(command_line::integer<int64_t>(1, kMostBatch))
      ->capture_default_str();
  command
      ->add_option("--seed", arguments->seed,
                   "Recorded in the trace; greedy decoding does not use it")
      ->check(command_line::integer<int64_t>())
      ->capture_default_str();
  command->add_option("--device", *device, "cpu, or cuda if the build has it (default: cpu)")
      ->check(command_line::one_of({"cpu", "cuda"}))
      ->type_name("cpu|cuda");
  command->add_option("--output", arguments->output,
                      "File for the texts, as JSON Lines (default: standard output)");
  command->add_flag("--compare", arguments->compare,
                    "Run without and with tracing, in turns pass by pass, and compare times and "
                    "texts; needs MOETRACE=1");
  command->add_option("--timing", arguments->timing,
                      "File for the wall times, as JSON (default: timing.json with --compare)");
  command->callback([arguments, device, &chosen] {
    arguments->device = *device == "cuda" ? Device::kCuda : Device::kCpu;
    chosen = [arguments] { return generate_command(*arguments); };
  });
}

int report_usage(const CLI::App& app, const CLI::ParseError& error) {
  std::fprintf(stderr, "moetrace-engine: %s\n", command_line::usage_line(app, error).c_str());
  return kExitUsage;
}

int report(const Error& error) {
  // Messages quote names from the model's files, which may hold control characters.
  std::fprintf(stderr, "moetrace-engine: %s\n", one_line(error.message).c_str());
  return error.code == ErrorCode::kUsage ? kExitUsage : kExitFailed;
}

int run(int argc, char** argv) {
  CLI::App app("moetrace-engine: runs Qwen2-MoE models and can trace their routing",
               "moetrace-engine");
  app.set_version_flag("--version", "moetrace-engine " MOETRACE_VERSION);
  app.require_subcommand(1);
  Command chosen;
  add_init_model(app, chosen);
  add_prompts(app, chosen);
  add_generate(app, chosen);
  try {
    command_line::parse(app, {argv + 1, argv + argc});
  } catch (const CLI::ParseError& error) {
    return error.get_exit_code() == 0 ? app.exit(error) : report_usage(app, error);
  }
  const Result<void> done = chosen();
  return done ? 0 : report(done.error());
}

}  // namespace

}  // namespace moetrace::engine

int main(int argc, char** argv) {
  moetrace::command_line::begin_program();
  int exit_code = 1;
  try {
    exit_code = moetrace::engine::run(argc, argv);
  } catch (const std::exception& error) {  // std::bad_alloc, in practice
    std::fprintf(stderr, "moetrace-engine: failed: %s; free some memory, or use a smaller model\n",
                 error.what());
  }
  return moetrace::command_line::end_program("moetrace-engine", exit_code);
}
