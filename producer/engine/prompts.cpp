#include "producer/engine/prompts.hpp"

#include <nlohmann/json.hpp>
#include <sstream>

#include "producer/engine/files.hpp"
#include "producer/engine/utf8.hpp"

namespace moetrace::engine {

Result<std::vector<std::string>> read_prompts(const std::filesystem::path& path) {
  auto content = read_file(path);
  if (!content) return content.error();
  const auto bad = [&](const std::string& why) {
    return Error{ErrorCode::kBadPrompt, shown(path) + ": " + why};
  };
  if (content->find_first_not_of(" \t\r\n") == std::string::npos) {
    return bad("the prompt file is empty; make one with moetrace-engine prompts");
  }
  std::vector<std::string> prompts;
  for (size_t from = 0; from <= content->size();) {
    const size_t cut = std::min(content->find(kPromptSeparator, from), content->size());
    prompts.push_back(content->substr(from, cut - from));
    const std::string which = "prompt " + std::to_string(prompts.size() - 1);
    if (prompts.back().empty()) return bad(which + " is empty; is a separator doubled?");
    if (!is_utf8(prompts.back())) return bad(which + " is not valid UTF-8; save the file as UTF-8");
    from = cut == content->size() ? cut + 1 : cut + kPromptSeparator.size();
  }
  return prompts;
}

Result<std::vector<std::string>> read_gsm8k(const std::filesystem::path& path, int64_t count) {
  auto content = read_file(path);
  if (!content) return content.error();
  std::istringstream lines(std::move(*content));
  std::vector<std::string> prompts;
  std::string line;
  while (static_cast<int64_t>(prompts.size()) < count && std::getline(lines, line)) {
    const auto object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    const std::string where = shown(path) + ": line " + std::to_string(prompts.size() + 1);
    if (!object.is_object() || !object.contains("question") || !object["question"].is_string()) {
      return Error{ErrorCode::kBadFile,
                   where + ": no JSON object with a question; is this a GSM8K file?"};
    }
    prompts.push_back(object["question"].get<std::string>());
    if (prompts.back().find(kPromptSeparator) != std::string::npos) {
      return Error{ErrorCode::kBadPrompt,
                   where +
                       ": the question contains the separator of prompt files; take it out of "
                       "the file, or ask for fewer with --first"};
    }
  }
  if (static_cast<int64_t>(prompts.size()) < count) {
    return Error{ErrorCode::kBadPrompt, shown(path) + ": has only " +
                                            std::to_string(prompts.size()) +
                                            " questions; ask for fewer with --first"};
  }
  return prompts;
}

std::string join_prompts(const std::vector<std::string>& prompts) {
  std::string text;
  for (const std::string& prompt : prompts) {
    if (!text.empty()) text += kPromptSeparator;
    text += prompt;
  }
  return text;
}

}  // namespace moetrace::engine
