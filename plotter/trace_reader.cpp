#include "plotter/trace_reader.hpp"

#include <cstring>
#include <utility>

#include "plotter/line_parser.hpp"
#include "plotter/line_source.hpp"
#include "plotter/meta_parser.hpp"
#include "plotter/route_scanner.hpp"

namespace moetrace::trace {
namespace {

Error at_line(const std::string& path, uint64_t number, const Error& error) {
  return {error.code, path + ": line " + std::to_string(number) + ": " + error.message};
}

// Why the source gave no line. Status kLine and kEnd are no failures.
Error source_error(const std::string& path, uint64_t number, const LineSource::Next& next) {
  using Status = LineSource::Status;
  if (next.status == Status::kTorn) {
    return at_line(path, number,
                   {ErrorCode::kTornLine, "torn: the file ends inside this line (no newline)"});
  }
  if (next.status == Status::kTooLong) {
    return at_line(path, number,
                   {ErrorCode::kTooLong,
                    "longer than " + std::to_string(kMaxLineBytes >> 20) + " MiB, no trace"});
  }
  return {ErrorCode::kRead, path + ": " + std::strerror(next.error_number)};
}

// What stands in the place of the meta line, or "" if it is one, or the beginning of one.
std::string_view what_instead(LineSource::Status status, std::string_view line,
                              const Result<Meta>& meta) {
  if (status == LineSource::Status::kTooLong) return "longer than any of a trace";
  if (meta || meta.error().code == ErrorCode::kBadMeta) return "";
  if (meta.error().code == ErrorCode::kNoMeta) return "JSON, but no meta line";
  const bool begun = status == LineSource::Status::kTorn && line.starts_with('{');
  return begun ? "" : "not JSON";
}

}  // namespace

struct TraceReader::Impl {
  Impl(std::string path_, LineSource source_, Meta meta_, std::optional<uint32_t> experts)
      : path(std::move(path_)),
        source(std::move(source_)),
        meta(std::move(meta_)),
        num_experts(experts),
        limits{.top_k = meta.top_k,
               .num_experts = experts.value_or(kMaxExperts),
               .num_layers = meta.num_layers.value_or(kMaxLayers),
               .plain = meta.plain(),
               .experts_given = experts && !meta.num_experts},
        scanner(limits),
        parser(limits) {}

  // The short way for nearly all lines, the general way for the rest.
  bool parse() {
    auto* route = std::get_if<Route>(&line.content);
    if (route == nullptr) route = &line.content.emplace<Route>();
    return scanner.scan(line.text, *route) || parser.parse(line.text, line.content);
  }

  std::string path;
  LineSource source;
  Meta meta;
  std::optional<uint32_t> num_experts;
  Limits limits;
  RouteScanner scanner;
  LineParser parser;
  Line line{.number = 1, .text = {}, .content = {}};
  std::optional<Error> failed;
};

Result<TraceReader> TraceReader::open(const std::string& path, const ReadOptions& options) {
  auto source = LineSource::open(path);
  if (!source) return source.error();
  const auto first = source->next();
  if (first.status == LineSource::Status::kEnd) {
    return Error{ErrorCode::kEmpty, path + ": not a trace: it is empty"};
  }
  if (first.status == LineSource::Status::kReadFailed) return source_error(path, 1, first);
  auto meta = parse_meta(first.line);
  if (const auto what = what_instead(first.status, first.line, meta); !what.empty()) {
    return Error{ErrorCode::kNoMeta,
                 path + ": not a trace: its first line is " + std::string(what)};
  }
  if (first.status != LineSource::Status::kLine) return source_error(path, 1, first);
  if (!meta) return at_line(path, 1, meta.error());

  const std::optional<uint32_t> given = options.num_experts;
  const std::optional<uint32_t> own = meta->num_experts;
  if (given && own && *given != *own) {
    return Error{ErrorCode::kOtherExperts, path + ": line 1: the trace has " +
                                               std::to_string(*own) + " experts, not " +
                                               std::to_string(*given)};
  }
  const std::optional<uint32_t> experts = own ? own : given;
  auto impl = std::make_unique<Impl>(path, std::move(*source), std::move(*meta), experts);
  return TraceReader(std::move(impl));
}

TraceReader::TraceReader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
TraceReader::TraceReader(TraceReader&&) noexcept = default;
TraceReader& TraceReader::operator=(TraceReader&&) noexcept = default;
TraceReader::~TraceReader() = default;

const Meta& TraceReader::meta() const {
  return impl_->meta;
}

std::optional<uint32_t> TraceReader::num_experts() const {
  return impl_->num_experts;
}

Result<const Line*> TraceReader::next() {
  Impl& impl = *impl_;
  if (impl.failed) return *impl.failed;
  const auto next = impl.source.next();
  if (next.status == LineSource::Status::kEnd) return nullptr;
  ++impl.line.number;
  if (next.status != LineSource::Status::kLine) {
    impl.failed = source_error(impl.path, impl.line.number, next);
    return *impl.failed;
  }
  impl.line.text = next.line;
  if (!impl.parse()) {
    impl.failed = at_line(impl.path, impl.line.number, impl.parser.error());
    return *impl.failed;
  }
  return &impl.line;
}

}  // namespace moetrace::trace
