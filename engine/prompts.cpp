#include "engine/prompts.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <utility>

#include "common/utf8.hpp"
#include "engine/files.hpp"

namespace moetrace::engine {
namespace {

constexpr std::string_view kBlanks = " \t\r";

// Turns the line ends into LF if all lines end in CR LF, or all in CR.
void unify_line_ends(std::string& text) {
  const auto feeds = std::count(text.begin(), text.end(), '\n');
  if (feeds == 0) {
    std::replace(text.begin(), text.end(), '\r', '\n');
    return;
  }
  std::string unified;
  unified.reserve(text.size());
  for (size_t at = 0; at < text.size(); ++at) {
    const bool feed_follows = at + 1 < text.size() && text[at + 1] == '\n';
    if (text[at] != '\r' || !feed_follows) unified += text[at];
  }
  const bool all = text.size() - unified.size() == static_cast<size_t>(feeds);
  if (all) text = std::move(unified);
}

// Start of the next line if the line that begins at `at` is blank; otherwise nothing.
std::optional<size_t> end_of_blank_line(std::string_view text, size_t at) {
  const size_t end = std::min(text.find_first_not_of(kBlanks, at), text.size());
  if (end == text.size()) return end;
  return text[end] == '\n' ? std::optional(end + 1) : std::nullopt;
}

// A line of three dashes between two blank lines. Includes the newline before the first blank line.
struct Separator {
  size_t begin, end;
};

std::optional<Separator> find_separator(std::string_view text, size_t from) {
  constexpr std::string_view kDashes = "\n---";
  for (size_t at = text.find(kDashes, from); at != std::string_view::npos;
       at = text.find(kDashes, at + 1)) {
    size_t begin = at;
    while (begin > from && kBlanks.find(text[begin - 1]) != std::string_view::npos) --begin;
    if (begin == from || text[begin - 1] != '\n') continue;
    --begin;
    const auto dashes = end_of_blank_line(text, at + kDashes.size());
    const auto end = dashes ? end_of_blank_line(text, *dashes) : std::nullopt;
    if (!end) continue;
    if (begin > from && text[begin - 1] == '\r') --begin;
    return Separator{begin, *end};
  }
  return std::nullopt;
}

}  // namespace

Result<std::vector<std::string>> read_prompts(const std::filesystem::path& path) {
  auto content = read_text(path);
  if (!content) return content.error();
  const auto bad = [&](const std::string& why) {
    return Error{ErrorCode::kBadPrompt, shown(path) + ": " + why};
  };
  if (content->find_first_not_of(" \t\r\n") == std::string::npos) {
    return bad("the prompt file is empty; write one with moetrace-engine prompts");
  }
  unify_line_ends(*content);
  if (content->ends_with('\n')) content->pop_back();
  std::vector<std::string> prompts;
  for (std::optional<size_t> from = 0; from;) {
    const auto cut = find_separator(*content, *from);
    prompts.push_back(content->substr(*from, cut ? cut->begin - *from : std::string::npos));
    const std::string which = "prompt " + std::to_string(prompts.size() - 1);
    if (prompts.back().empty()) return bad(which + " is empty; remove a separator beside it");
    if (!is_utf8(prompts.back())) return bad(which + ": invalid UTF-8; save the file as UTF-8");
    from = cut ? std::optional(cut->end) : std::nullopt;
  }
  return prompts;
}

Result<std::vector<std::string>> read_gsm8k(const std::filesystem::path& path, int64_t count) {
  auto content = read_text(path);
  if (!content) return content.error();
  std::istringstream lines(std::move(*content));
  std::vector<std::string> prompts;
  std::string line;
  while (static_cast<int64_t>(prompts.size()) < count && std::getline(lines, line)) {
    const auto object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    const std::string where = shown(path) + ": line " + std::to_string(prompts.size() + 1);
    if (!object.is_object() || !object.contains("question") || !object["question"].is_string()) {
      return Error{
          ErrorCode::kBadFile,
          where + ": expected a JSON object with a string \"question\"; give a GSM8K file"};
    }
    prompts.push_back(object["question"].get<std::string>());
    if (find_separator(prompts.back(), 0)) {
      return Error{ErrorCode::kBadPrompt,
                   where +
                       ": the question contains the separator of prompt files; remove this line, "
                       "or take fewer with --first"};
    }
  }
  if (static_cast<int64_t>(prompts.size()) < count) {
    return Error{ErrorCode::kBadPrompt, shown(path) + ": only " + std::to_string(prompts.size()) +
                                            " questions of " + std::to_string(count) +
                                            "; take fewer with --first"};
  }
  return prompts;
}

std::string join_prompts(const std::vector<std::string>& prompts) {
  std::string text;
  for (const std::string& prompt : prompts) {
    if (!text.empty()) text += kPromptSeparator;
    text += prompt;
  }
  if (text.ends_with('\n')) text += '\n';  // read_prompts() drops one newline at the end
  return text;
}

}  // namespace moetrace::engine
