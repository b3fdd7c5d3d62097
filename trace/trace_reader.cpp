#include "trace/trace_reader.hpp"

#include <utility>

#include "trace/file_parser.hpp"
#include "trace/line_source.hpp"

namespace moetrace::trace {
namespace {

std::string in_bytes(size_t size) {
  return std::to_string(size) + (size == 1 ? " byte" : " bytes");
}

}  // namespace

std::string shown_name(const std::string& path) {
  return path == "-" ? "standard input" : path;
}

struct TraceReader::Impl {
  Impl(const std::string& path, ByteSource bytes, std::optional<uint32_t> num_experts)
      : name(shown_name(path)), source(std::move(bytes)), parser(num_experts) {}

  Error at_line(const Error& error) const;
  Error too_long() const;
  // What reading a line gave. kNothing: it was blank or a meta line; kFailed: see `failed`.
  enum class Took : uint8_t { kNothing, kLine, kEnd, kFailed };
  Took take_next();
  Took fail(Error error);
  void leave_out(size_t unfinished_bytes);

  std::string name;
  LineSource source;
  FileParser parser;
  Line line{.number = 0, .text = {}, .content = {}};
  Took last = Took::kNothing;  // kLine: open() has read it, and next() is to give it
  std::optional<Error> failed;
  std::string left_out;
};

// A line that is wrong, with how to look at it.
Error TraceReader::Impl::at_line(const Error& error) const {
  if (error.code == ErrorCode::kNoMeta) {
    return {error.code, name + ": not a trace: " + error.message, error.remedy};
  }
  Error whole{error.code, name + ": line " + std::to_string(line.number) + ": " + error.message,
              error.remedy};
  const bool of_the_line = error.code == ErrorCode::kBadJson || error.code == ErrorCode::kBadLine ||
                           error.code == ErrorCode::kBadMeta;
  if (of_the_line && error.remedy.empty()) {
    const Packing packing = source.bytes().packing();
    const std::string show = "sed -n " + std::to_string(line.number) + "p";
    whole.remedy = "look at it: " + (packing == Packing::kGzip   ? "zcat FILE | " + show
                                     : packing == Packing::kZstd ? "zstdcat FILE | " + show
                                                                 : show + " FILE");
  }
  return whole;
}

Error TraceReader::Impl::too_long() const {
  const std::string why = "longer than " + std::to_string(kMaxLineBytes >> 20) +
                          " MiB, the most that a line of a trace may have";
  if (parser.begun()) return at_line({ErrorCode::kTooLong, why});
  return at_line({ErrorCode::kNoMeta, "its first line is " + why});
}

void TraceReader::Impl::leave_out(size_t bytes) {
  const std::string number = std::to_string(line.number);
  if (source.bytes().cut()) {
    left_out =
        name + ": the compressed data end early, " +
        (bytes == 0 ? "after line " + number
                    : "in line " + number + ", of which " + in_bytes(bytes) + " were left out") +
        "; copy the file again, or wait until its writer has ended";
  } else if (bytes > 0) {
    left_out = name + ": left out 1 unfinished line: line " + number + " has " + in_bytes(bytes) +
               " and no newline; wait until its writer has ended the line";
  }
}

TraceReader::Impl::Took TraceReader::Impl::fail(Error error) {
  failed = std::move(error);
  return Took::kFailed;
}

TraceReader::Impl::Took TraceReader::Impl::take_next() {
  const auto next = source.next();
  if (next.status == LineSource::Status::kReadFailed) {
    const Error& why = source.bytes().error();
    return fail({why.code, name + ": " + why.message, why.remedy});
  }
  if (next.status == LineSource::Status::kEnd) {
    if (!parser.begun()) return fail({ErrorCode::kEmpty, name + ": not a trace: it is empty"});
    leave_out(0);
    return Took::kEnd;
  }
  ++line.number;
  line.text = next.line;
  if (next.status == LineSource::Status::kTooLong) return fail(too_long());
  bool unfinished = false;
  const FileParser::Taken taken =
      next.status == LineSource::Status::kLine
          ? parser.take(next.line, line.number, line.content)
          : parser.take_last(next.line, line.number, line.content, unfinished);
  if (taken == FileParser::Taken::kContent) return Took::kLine;
  if (taken == FileParser::Taken::kWrong) return fail(at_line(parser.error()));
  if (!unfinished) return Took::kNothing;
  if (!parser.begun()) {
    return fail(at_line({ErrorCode::kNoEnd, "unfinished: it has no newline"}));
  }
  leave_out(next.line.size());
  return Took::kEnd;
}

Result<TraceReader> TraceReader::open(const std::string& path, const ReadOptions& options) {
  auto bytes = ByteSource::open(path);
  if (!bytes) return bytes.error();
  auto impl = std::make_unique<Impl>(path, std::move(*bytes), options.num_experts);
  // No further than it must: what comes through a pipe may come later.
  while (impl->last == Impl::Took::kNothing && impl->parser.meta().top_k == 0) {
    impl->last = impl->take_next();
  }
  if (impl->failed && !impl->parser.begun()) return *impl->failed;
  return TraceReader(std::move(impl));
}

TraceReader::TraceReader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TraceReader::TraceReader(TraceReader&&) noexcept = default;
TraceReader& TraceReader::operator=(TraceReader&&) noexcept = default;
TraceReader::~TraceReader() = default;

const Meta& TraceReader::meta() const {
  return impl_->parser.meta();
}

std::optional<uint32_t> TraceReader::num_experts() const {
  return impl_->parser.num_experts();
}

uint32_t TraceReader::experts_seen() const {
  return impl_->parser.experts_seen();
}

std::pair<dev_t, ino_t> TraceReader::identity() const {
  return impl_->source.bytes().identity();
}

const std::string& TraceReader::left_out() const {
  return impl_->left_out;
}

Result<const Line*> TraceReader::next() {
  using Took = Impl::Took;
  Impl& impl = *impl_;
  if (impl.last == Took::kFailed) return *impl.failed;
  if (impl.last == Took::kEnd) return nullptr;
  Took took = std::exchange(impl.last, Took::kNothing);
  while (took == Took::kNothing) took = impl.take_next();
  if (took == Took::kLine) return &impl.line;
  impl.last = took;
  if (took == Took::kFailed) return *impl.failed;
  return nullptr;
}

}  // namespace moetrace::trace
