#include "trace/verify_files.hpp"

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>

#include "trace/trace_reader.hpp"

namespace moetrace::trace {
namespace {

struct Place {
  std::string trace_id;
  std::uint64_t part = 1;
};

// Which part of which trace a file is, by its first two lines. Nothing for plain logs, for what
// can't be read, and for what can be read only once.
std::optional<Place> place_of(const std::string& path) {
  std::error_code failed;
  if (!std::filesystem::is_regular_file(path, failed)) return std::nullopt;
  auto reader = TraceReader::open(path, {.num_experts = {}, .one_of_two = true});
  if (!reader || !reader->meta().trace_id) return std::nullopt;
  Place place{*reader->meta().trace_id, 1};
  const auto line = reader->next();
  if (line && *line != nullptr) {
    if (const auto* base = std::get_if<Base>(&(*line)->content)) {
      place.part = base->part.value_or(1);
    }
  }
  return place;
}

Error wrong_trace(const std::string& path, const TraceReader& reader, const Wrong& wrong,
                  const HowToFinish& how_to_finish) {
  const std::string name = shown_name(path);
  if (wrong.line == 0) {
    const char* const rest = reader.left_out().empty() ? "" : "the last line is unfinished; ";
    return {ErrorCode::kWrongTrace, name + ": " + rest + wrong.why,
            how_to_finish ? how_to_finish(path, reader.meta())
                          : "wait until its collector has finished it"};
  }
  return {ErrorCode::kWrongTrace, name + ": line " + std::to_string(wrong.line) + ": " + wrong.why,
          std::string(wrong.what_to_try)};
}

std::string counted(std::uint64_t count, const char* thing) {
  return std::to_string(count) + " " + thing + (count == 1 ? "" : "s");
}

// What one file of the two says alone. It can't be verified.
Error say_what_is_there(TraceReader& reader) {
  std::uint64_t rows = 0, steps = 0, requests = 0;
  std::optional<std::uint64_t> delivered;
  for (;;) {
    const auto next = reader.next();
    if (!next) return next.error();
    if (*next == nullptr) break;
    const Content& content = (*next)->content;
    if (const auto* run = std::get_if<RowRun>(&content)) rows += run->size();
    if (std::holds_alternative<Step>(content)) ++steps;
    if (std::holds_alternative<Request>(content)) ++requests;
    if (const auto* end = std::get_if<End>(&content)) delivered = end->delivered;
  }
  Error error = *reader.incomplete();
  error.message += "; not verified: ";
  if (error.code == ErrorCode::kNoLines) {
    error.message += counted(rows, "row") + " in " +
                     (reader.batches() == 1 ? "1 batch" : counted(reader.batches(), "batche")) +
                     " have the right checksums and sequence";
  } else {
    error.message += "its lines name " + counted(steps, "step") + " and " +
                     counted(requests, "request") +
                     (delivered ? ", and count " + counted(*delivered, "row") + " as delivered"
                                : ", and have no end line");
  }
  return error;
}

// `left_out`: at the file's end, because it is unfinished.
std::optional<Error> verify_part(Verifier& verifier, const std::string& path,
                                 const HowToFinish& how_to_finish, std::string& left_out) {
  auto reader = TraceReader::open(path, {.num_experts = {}, .one_of_two = true});
  if (!reader) return reader.error();
  if (reader->incomplete()) {
    auto alone = TraceReader::open(path, {.num_experts = {}, .one_of_two = true, .runs = true});
    return alone ? say_what_is_there(*alone) : alone.error();
  }
  std::optional<Wrong> wrong = verifier.begin(reader->meta());
  while (!wrong) {
    const auto line = reader->next();
    if (!line) return line.error();
    if (*line == nullptr) {
      wrong = verifier.finish_part();
      break;
    }
    wrong = verifier.check(**line);
  }
  if (wrong) return wrong_trace(path, *reader, *wrong, how_to_finish);
  left_out = reader->left_out();
  return std::nullopt;
}

}  // namespace

Result<TraceSummary> verify_trace(const std::vector<std::string>& parts,
                                  const HowToFinish& how_to_finish) {
  Verifier verifier;
  std::vector<std::string> warnings;
  std::string left_out;
  for (const std::string& path : parts) {
    if (auto failed = verify_part(verifier, path, how_to_finish, left_out)) return *failed;
    for (const std::string& line : verifier.take_warnings())
      warnings.push_back(shown_name(path) + ": " + line);
  }
  TraceSummary summary = verifier.summary();
  summary.left_out = std::move(left_out);
  summary.warnings = std::move(warnings);
  return summary;
}

Result<TraceSummary> verify_trace(const std::string& path, const HowToFinish& how_to_finish) {
  return verify_trace(std::vector{path}, how_to_finish);
}

std::vector<std::vector<std::string>> group_parts(const std::vector<std::string>& files) {
  struct Group {
    bool copies = false;
    std::vector<std::pair<std::uint64_t, std::string>> parts;
  };
  std::vector<Group> groups;
  std::map<std::string, std::size_t> known;  // trace id -> its group
  for (const std::string& file : files) {
    const auto place = files.size() > 1 ? place_of(file) : std::nullopt;
    const auto [found, is_new] =
        place ? known.try_emplace(place->trace_id, groups.size()) : std::pair(known.end(), true);
    if (is_new) groups.emplace_back();
    Group& group = is_new ? groups.back() : groups[found->second];
    const std::uint64_t part = place ? place->part : 1;
    for (const auto& [number, path] : group.parts) group.copies = group.copies || number == part;
    group.parts.emplace_back(part, file);
  }
  std::vector<std::vector<std::string>> result;
  for (Group& group : groups) {
    if (!group.copies) std::sort(group.parts.begin(), group.parts.end());
    for (std::size_t n = 0; n < group.parts.size(); ++n) {
      if (n == 0 || group.copies) result.emplace_back();
      result.back().push_back(group.parts[n].second);
    }
  }
  return result;
}

}  // namespace moetrace::trace
