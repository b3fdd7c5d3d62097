#include "plotter/trace_reader.hpp"

#include <utility>

#include "plotter/file_parser.hpp"
#include "plotter/line_source.hpp"

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
  // Reads one line. Nothing: it was blank or a meta line.
  std::optional<Result<const Line*>> take_next();
  void leave_out(size_t unfinished_bytes);

  std::string name;
  LineSource source;
  FileParser parser;
  Line line{.number = 0, .text = {}, .content = {}};
  std::optional<Result<const Line*>> first;  // what open() has read
  std::optional<Error> failed;
  bool ended = false;
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
        (bytes == 0 ? "behind line " + number
                    : "in line " + number + ", of which " + in_bytes(bytes) + " were left out") +
        "; copy the file again, or wait until its writer has ended";
  } else if (bytes > 0) {
    left_out = name + ": left out 1 unfinished line: line " + number + " has " + in_bytes(bytes) +
               " and no newline; wait until its writer has ended the line";
  }
}

std::optional<Result<const Line*>> TraceReader::Impl::take_next() {
  const auto next = source.next();
  if (next.status == LineSource::Status::kReadFailed) {
    const Error& why = source.bytes().error();
    return Error{why.code, name + ": " + why.message, why.remedy};
  }
  ++line.number;
  line.text = next.line;
  FileParser::Taken taken = FileParser::Taken::kNothing;
  bool unfinished = false;
  switch (next.status) {
    case LineSource::Status::kLine:
      taken = parser.take(next.line, line.number, line.content);
      break;
    case LineSource::Status::kLast:
      taken = parser.take_last(next.line, line.number, line.content, unfinished);
      if (unfinished && !parser.begun()) {
        return at_line({ErrorCode::kNoEnd, "unfinished: it has no newline"});
      }
      break;
    case LineSource::Status::kTooLong:
      return too_long();
    default:
      if (!parser.begun()) return Error{ErrorCode::kEmpty, name + ": not a trace: it is empty"};
      --line.number;
      leave_out(0);
      return nullptr;
  }
  if (unfinished) leave_out(next.line.size());
  if (taken == FileParser::Taken::kContent) return &line;
  if (taken == FileParser::Taken::kWrong) return at_line(parser.error());
  if (unfinished) return nullptr;
  return std::nullopt;
}

Result<TraceReader> TraceReader::open(const std::string& path, const ReadOptions& options) {
  auto bytes = ByteSource::open(path);
  if (!bytes) return bytes.error();
  auto impl = std::make_unique<Impl>(path, std::move(*bytes), options.num_experts);
  // No further than it must: what comes through a pipe may come later.
  while (!impl->first && impl->parser.meta().top_k == 0) impl->first = impl->take_next();
  if (impl->first && !*impl->first && !impl->parser.begun()) return impl->first->error();
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
  Impl& impl = *impl_;
  if (impl.failed) return *impl.failed;
  if (impl.ended) return nullptr;
  auto next = std::exchange(impl.first, std::nullopt);
  while (!next) next = impl.take_next();
  if (!*next) impl.failed = next->error();
  impl.ended = *next && **next == nullptr;
  return *next;
}

}  // namespace moetrace::trace
