#include "daemon/cli/converter.hpp"

#include <signal.h>
#include <sys/stat.h>

#include <boost/uuid/random_generator.hpp>
#include <boost/uuid/uuid_io.hpp>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "daemon/cli/input_progress.hpp"
#include "daemon/cli/json_keys.hpp"
#include "daemon/cli/log_survey.hpp"
#include "daemon/cli/losses.hpp"
#include "daemon/cli/new_file.hpp"
#include "daemon/cli/plain_trace.hpp"
#include "daemon/cli/trace_writer.hpp"
#include "trace/arrow_format.hpp"
#include "trace/byte_source.hpp"
#include "trace/trace_reader.hpp"

namespace moetrace::cli {
namespace {

namespace fs = std::filesystem;

// How many lines pass between two looks at the clock.
constexpr std::uint64_t kLinesALook = 4096;

Failure unreadable(const trace::Error& error) {
  return {kFailed, error.message + "; " + trace::what_to_try(error)};
}

std::uint64_t size_of(const std::string& path) {
  std::error_code unknown;
  const auto bytes = path == "-" ? 0 : fs::file_size(path, unknown);
  return unknown ? 0 : bytes;
}

bool same_file(const std::string& path, const std::string& other) {
  std::error_code unknown;
  return !other.empty() && fs::equivalent(path, other, unknown);
}

bool as_arrow(const std::string& output) {
  return fs::path(output).extension() == arrow::kExtension;
}

// Why no trace can be written there, as far as its name says; or nothing.
std::optional<Failure> wrong_output(const ConvertOptions& options) {
  const std::string extension = fs::path(options.output).extension().string();
  if (extension == ".parquet" || fs::path(options.input).extension() == ".parquet") {
    return Failure{kUsage, "Parquet is Python's: python3 -m moetrace.parquet " +
                               (options.input.empty() ? "INPUT" : options.input) + " " +
                               options.output};
  }
  if (options.output != "-" && extension != ".jsonl" && extension != arrow::kExtension) {
    return Failure{kUsage, options.output +
                               ": its name does not say a form; end it in .jsonl for JSON Lines, "
                               "or in .arrows for rows as Arrow"};
  }
  if (!as_arrow(options.output) && (options.weights || options.compression)) {
    return Failure{kUsage, options.output +
                               ": --weights and --compress are for rows as Arrow; end the name "
                               "in .arrows, or leave them out"};
  }
  return std::nullopt;
}

class Conversion {
 public:
  Conversion(const ConvertOptions& options, bool wide)
      : options_(options),
        wide_(wide),
        name_(trace::shown_name(options.input)),
        losses_(name_, options.lossy) {}

  std::optional<Failure> run();
  // A number was too large for the columns.
  bool outgrown() const { return writer_ != nullptr && writer_->outgrown(); }
  std::string summary() const { return losses_.summary(); }

 private:
  using Problem = std::optional<Failure>;

  Problem open();
  bool begins_with_mark() const;
  Problem check_names() const;
  Problem make_writer();
  Problem lose_weights();
  Problem take_lines();
  Problem take(const trace::Line& line);
  Problem take_other(const trace::Line& line);
  Problem check_gap(const trace::Line& line);
  Problem check_end();
  Problem publish();
  // Names the input, if the message does not.
  Failure named(Failure failure) const;

  const ConvertOptions& options_;
  bool wide_;
  std::string name_;
  Losses losses_;
  std::optional<trace::TraceReader> reader_;
  trace::Meta meta_;       // of the output
  std::string meta_text_;  // its line
  std::unique_ptr<TraceWriter> writer_;
  std::unique_ptr<PlainTrace> plain_;
  bool apart_ = false;  // the input's rows are in a file of their own
  std::uint64_t last_line_ = 1;
  bool ended_ = false;
  std::uint64_t bytes_ = 0;
  std::uint64_t rows_ = 0;
};

Failure Conversion::named(Failure failure) const {
  if (failure.message.starts_with("line ")) failure.message = name_ + ": " + failure.message;
  return failure;
}

std::optional<Failure> Conversion::open() {
  trace::ReadOptions read;
  read.num_experts = options_.num_experts;
  auto reader = trace::TraceReader::open(options_.input, read);
  if (!reader) return unreadable(reader.error());
  reader_.emplace(std::move(*reader));
  meta_ = reader_->meta();
  apart_ = meta_.rows.has_value();
  if (meta_.plain()) {
    if (auto surveyed = survey(options_.input, read)) meta_ = std::move(*surveyed);
    meta_.trace_id = boost::uuids::to_string(boost::uuids::random_generator()());
  }
  if (!meta_.num_experts) meta_.num_experts = options_.num_experts;
  if (!meta_.num_experts) {
    return Failure{kUsage, name_ +
                               ": it does not say how many experts the model has; give "
                               "--num-experts N"};
  }
  if (meta_.top_k == 0)
    return Failure{kFailed, name_ + ": it has no rows; give a log that has some"};
  if (!meta_.plain()) {
    meta_text_ = meta_.text;
    return begins_with_mark() ? losses_.lose(Losses::Kind::kSpelling, 1, "its byte order mark")
                              : std::nullopt;
  }
  meta_text_ = plain_trace_meta(meta_, *meta_.trace_id);
  for (const std::string_view key : keys_of(meta_.text)) {
    if (without_key(meta_text_, key) != meta_text_) continue;
    if (auto lost = losses_.lose(Losses::Kind::kKeys, 1,
                                 "the key \"" + std::string(key) + "\" of its meta line"))
      return lost;
  }
  return std::nullopt;
}

// The reader has skipped it.
bool Conversion::begins_with_mark() const {
  if (!fs::is_regular_file(reader_->lines_file())) return false;
  auto bytes = trace::ByteSource::open(reader_->lines_file());
  char first = 0;
  return bytes && bytes->read(&first, 1) == 1 && first != '{';
}

// Also with --force: what is read must not be replaced.
std::optional<Failure> Conversion::check_names() const {
  for (const std::string& output :
       {options_.output, as_arrow(options_.output) ? lines_path(options_.output) : std::string()}) {
    if (output.empty() || output == "-") continue;
    for (const std::string& input : {options_.input, reader_->lines_file(), reader_->rows_file()}) {
      if (input == "-" || !same_file(output, input)) continue;
      return Failure{
          kFailed,
          output + ": is a file of the input; give another -o" +
              (as_arrow(options_.output) ? ": NAME.arrows, whose lines go into NAME.jsonl" : "")};
    }
  }
  return std::nullopt;
}

// How much of each weight the input stores.
RowWeights stored_weights(const trace::Meta& meta) {
  if (!meta.rows) return RowWeights::kFloat32;
  if (!meta.rows->weights) return RowWeights::kNone;
  return *meta.rows->weights == "float16" ? RowWeights::kFloat16 : RowWeights::kFloat32;
}

std::optional<Failure> Conversion::lose_weights() {
  const RowWeights wanted = options_.weights.value_or(RowWeights::kFloat32);
  const bool loses = as_arrow(options_.output) && wanted > stored_weights(meta_);
  if (!loses) return std::nullopt;
  const std::string word = wanted == RowWeights::kNone ? "none" : std::string(name_of(wanted));
  return losses_.lose(Losses::Kind::kWeights, 0,
                      wanted == RowWeights::kNone
                          ? "with --weights none every weight"
                          : "with --weights " + word + " the last digits of every weight");
}

std::optional<Failure> Conversion::make_writer() {
  if (auto wrong = check_names()) return wrong;
  if (auto lost = lose_weights()) return lost;
  auto writer = as_arrow(options_.output)
                    ? arrow_writer(options_.output, options_.force, meta_,
                                   {.top_k = meta_.top_k,
                                    .num_experts = *meta_.num_experts,
                                    .weights = options_.weights.value_or(RowWeights::kFloat32),
                                    .wide = wide_},
                                   options_.compression.value_or(RowCompression::kFast), losses_)
                    : json_writer(options_.output, options_.force, meta_);
  if (!writer) return writer.error();
  writer_ = std::move(*writer);
  if (meta_.plain()) plain_ = std::make_unique<PlainTrace>(meta_, *writer_, losses_);
  return writer_->begin(apart_ ? without_key(meta_text_, "rows") : meta_text_);
}

// A reader skips blank lines, and the meta lines of later parts.
std::optional<Failure> Conversion::check_gap(const trace::Line& line) {
  const std::uint64_t skipped = line.number - last_line_ - 1;
  last_line_ = line.number;
  if (skipped == 0 || meta_.plain()) return std::nullopt;
  if (ended_)
    return Failure{kFailed,
                   "line " + std::to_string(line.number - 1) +
                       ": a second part begins here; convert each part as a file of its own"};
  return losses_.lose(Losses::Kind::kLines, line.number - 1, "the line, which is blank,");
}

std::optional<Failure> Conversion::take_other(const trace::Line& line) {
  constexpr std::string_view kPlace = "at_seq";
  if (apart_) {
    return writer_->line(without_key(line.text, kPlace), line.content);
  }
  const bool has_place = line.text.find(kPlace) != std::string_view::npos &&
                         without_key(line.text, kPlace) != line.text;
  if (has_place && as_arrow(options_.output)) {
    return Failure{kFailed, "line " + std::to_string(line.number) +
                                ": has the key \"at_seq\", though its rows are not in another "
                                "file; remove the key"};
  }
  return writer_->line(line.text, line.content);
}

std::optional<Failure> Conversion::take(const trace::Line& line) {
  const auto* const route = std::get_if<trace::Route>(&line.content);
  if (route != nullptr) ++rows_;
  if (!line.text.empty()) bytes_ += line.text.size() + 1;
  if (std::holds_alternative<trace::RowsWritten>(line.content) && apart_) return std::nullopt;
  if (!apart_) {
    if (auto lost = check_gap(line)) return lost;
  }
  if (plain_ != nullptr) return plain_->take(line);
  if (route != nullptr) return writer_->row(*route, {line.number, line.text});
  auto wrong = take_other(line);
  ended_ = std::holds_alternative<trace::End>(line.content);
  return wrong;
}

std::optional<Failure> Conversion::take_lines() {
  const std::string rows_file = reader_->rows_file();
  InputProgress progress(name_, size_of(rows_file.empty() ? options_.input : rows_file));
  for (std::uint64_t count = 1;; ++count) {
    const auto line = reader_->next();
    if (!line) return unreadable(line.error());
    if (*line == nullptr) return check_end();
    if (auto wrong = take(**line)) return wrong;
    if (count % kLinesALook == 0)
      progress.show(rows_file.empty() ? bytes_ : reader_->rows_bytes(), rows_);
  }
}

std::optional<Failure> Conversion::check_end() {
  using Kind = Losses::Kind;
  if (!reader_->left_out().empty()) {
    if (auto lost = losses_.lose(Kind::kUnfinished, 0, "an unfinished line at its end"))
      return lost;
  }
  if (apart_ && reader_->uncounted()) {
    return losses_.lose(Kind::kUnfinished, 0,
                        "what its collector has written after the last rows line");
  }
  const bool blank =
      !apart_ && !meta_.plain() && reader_->left_out().empty() && reader_->lines() > last_line_;
  if (blank) return losses_.lose(Kind::kLines, reader_->lines(), "the line, which is blank,");
  return std::nullopt;
}

// No signal comes between the two files of a pair.
std::optional<Failure> Conversion::publish() {
  sigset_t all, before;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, &before);
  auto wrong = writer_->publish();
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  return wrong;
}

std::optional<Failure> Conversion::run() {
  auto wrong = open();
  if (!wrong) wrong = make_writer();
  if (!wrong) wrong = take_lines();
  if (!wrong && plain_ != nullptr) wrong = plain_->finish();
  if (!wrong) wrong = writer_->finish();
  if (!wrong) wrong = publish();
  if (wrong) return named(std::move(*wrong));
  return std::nullopt;
}

}  // namespace

Outcome convert(const ConvertOptions& options) {
  if (auto wrong = wrong_output(options)) return *wrong;
  remove_new_files_on_signals();
  for (const bool wide : {false, true}) {
    std::string lost;
    {
      Conversion conversion(options, wide);
      if (auto wrong = conversion.run()) {
        const bool again = !wide && conversion.outgrown() && fs::is_regular_file(options.input);
        if (!again) return *wrong;
        continue;
      }
      lost = conversion.summary();
    }
    if (!lost.empty()) std::fprintf(stderr, "moetrace: convert: %s\n", lost.c_str());
    break;
  }
  return kOk;
}

}  // namespace moetrace::cli
