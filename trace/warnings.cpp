#include "trace/warnings.hpp"

#include <string_view>

#include "common/text.hpp"

namespace moetrace::trace {
namespace {

std::string_view reason(Strange kind) {
  switch (kind) {
    case Strange::kExpertTwice:
      return "a router picks distinct experts; some engines number all zero-computation experts as "
             "one";
    case Strange::kNegativeWeight:
      return "softmax and sigmoid routers give weights of 0 or more; check what the engine records";
    case Strange::kLayerNotSelected:
      return "neither \"layers_logged\" nor a control line selects that layer";
    case Strange::kStepNotSelected:
      return "\"layers_logged\", \"sample_every\" and the control lines before it select fewer "
             "rows";
    case Strange::kTimeGoesBack:
      return "the engine's clock is monotonic, so the times of the steps can't be trusted";
    case Strange::kMoreCachedThanPrompt:
      return "cached tokens are the first ones of the prompt";
    case Strange::kGenerated:
      return "every position but that of the last token has one row in each layer";
    case Strange::kUnknownStatus:
      return "the adapters write stop, length, finished, cancelled, error and forward";
    case Strange::kRequestNotEnded:
      return "the engine closed its trace without ending it";
    case Strange::kPlainLogOfTrace:
      return "if this was a trace, its meta line was changed, and nothing of it could be checked";
    case Strange::kCount:
      break;
  }
  return "";
}

}  // namespace

std::vector<std::string> Warnings::lines() const {
  std::vector<std::string> lines;
  for (std::size_t kind = 0; kind < found_.size(); ++kind) {
    const Found& found = found_[kind];
    if (found.times == 0) continue;
    std::string text = found.line != 0 ? "line " + std::to_string(found.line) + ": " : "";
    text += found.text;
    if (found.times > 1) text += ", the first of " + grouped(found.times);
    lines.push_back(text + "; " + std::string(reason(static_cast<Strange>(kind))));
  }
  return lines;
}

}  // namespace moetrace::trace
