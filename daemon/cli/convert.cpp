// moetrace convert: a trace in another form.
#include <memory>

#include "common/usage.hpp"
#include "daemon/cli/commands.hpp"
#include "daemon/cli/converter.hpp"
#include "shm/abi.h"

namespace moetrace::cli {
namespace {

// The words of moetraced's options.
const std::vector<std::pair<std::string, RowWeights>> kWeights{{"float32", RowWeights::kFloat32},
                                                               {"float16", RowWeights::kFloat16},
                                                               {"none", RowWeights::kNone}};
const std::vector<std::pair<std::string, RowCompression>> kCompressions{
    {"fast", RowCompression::kFast},
    {"small", RowCompression::kSmall},
    {"lz4", RowCompression::kLz4},
    {"none", RowCompression::kNone}};

template <class Value>
void add_choice(CLI::App* sub, const char* name, std::optional<Value>& to,
                const std::vector<std::pair<std::string, Value>>& choices, const char* help) {
  std::vector<std::string> words;
  words.reserve(choices.size());
  for (const auto& [word, value] : choices) words.push_back(word);
  const auto take = [&to, &choices](const std::string& given) {
    for (const auto& [word, value] : choices) {
      if (word == given) to = value;
    }
  };
  sub->add_option_function<std::string>(name, take, help)->check(command_line::one_of(words));
}

}  // namespace

void add_convert(CLI::App& app, Command& chosen) {
  auto* sub = app.add_subcommand(
      "convert", "Write a trace in its other form: JSON Lines, or rows as Arrow beside its lines");
  auto options = std::make_shared<ConvertOptions>();
  sub->add_option("INPUT", options->input,
                  "A trace in either form, or a plain log; also .gz or .zst, or - for standard "
                  "input")
      ->required();
  sub->add_option("-o,--output", options->output,
                  "NAME.jsonl, or - for standard output: JSON Lines. NAME.arrows: rows as Arrow, "
                  "and the other lines in NAME.jsonl")
      ->required();
  add_choice(sub, "--compress", options->compression, kCompressions,
             "For NAME.arrows: fast (default), small, lz4 or none");
  add_choice(sub, "--weights", options->weights, kWeights,
             "For NAME.arrows: float32 (default), float16 or none; the last two need --lossy");
  sub->add_option("--num-experts", options->num_experts,
                  "Experts of a layer, for a plain log that does not state it")
      ->check(command_line::integer<std::uint32_t>(1, MOETRACE_MAX_EXPERTS));
  sub->add_flag("--lossy", options->lossy,
                "Convert also what the other form can't keep; a line says what was lost");
  sub->add_flag("--force", options->force, "Replace files of these names");
  sub->callback([options, &chosen] { chosen = [options] { return convert(*options); }; });
}

}  // namespace moetrace::cli
