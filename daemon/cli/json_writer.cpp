#include "daemon/cli/new_file.hpp"
#include "daemon/cli/route_lines.hpp"
#include "daemon/cli/trace_writer.hpp"

namespace moetrace::cli {
namespace {

class JsonWriter : public TraceWriter {
 public:
  JsonWriter(std::unique_ptr<NewFile> file, const trace::Meta& meta)
      : file_(std::move(file)), routes_(meta) {}

  std::optional<Failure> begin(std::string_view text) override { return put(text); }

  std::optional<Failure> line(std::string_view text, const trace::Content& content) override {
    routes_.note(content);
    return put(text);
  }

  std::optional<Failure> row(const trace::Route& route, const LinePlace& place) override {
    return place.text.empty() ? file_->write(routes_.line(route)) : put(place.text);
  }

  std::optional<Failure> finish() override { return file_->complete(); }
  std::optional<Failure> publish() override { return file_->publish(); }

 private:
  std::optional<Failure> put(std::string_view text) {
    auto wrong = file_->write(text);
    return wrong ? wrong : file_->write("\n");
  }

  std::unique_ptr<NewFile> file_;
  RouteLines routes_;
};

}  // namespace

NewWriter json_writer(const std::string& path, bool force, const trace::Meta& meta) {
  auto file = NewFile::begin(path, force);
  if (!file) return file.error();
  return std::make_unique<JsonWriter>(std::move(*file), meta);
}

}  // namespace moetrace::cli
