#include "plotter/result.hpp"

namespace moetrace::trace {

std::string_view what_to_try(ErrorCode code) {
  switch (code) {
    case ErrorCode::kOpen:
      return "give a trace file that can be read";
    case ErrorCode::kRead:
      return "copy the file to another disk";
    case ErrorCode::kEmpty:
    case ErrorCode::kNoMeta:
      return "give a file that moetraced or moetrace run has written, or a log of vLLM's MoE patch";
    case ErrorCode::kTornLine:
      return "wait for its collector, or start it again, to end the line";
    case ErrorCode::kBadMeta:
      return "record it again, or use the moetrace that has written it";
    case ErrorCode::kTooLong:
    case ErrorCode::kBadJson:
    case ErrorCode::kBadLine:
      return "record it again, or cut the file before it";
    case ErrorCode::kNoExperts:
      return "give --num-experts N";
    case ErrorCode::kMismatch:
      return "give files of one run, each once";
    case ErrorCode::kNoLayer:
      return "give one of them";
    case ErrorCode::kOtherExperts:
      return "leave --num-experts out";
    case ErrorCode::kTooFewExperts:
      return "give a larger --num-experts";
    case ErrorCode::kDraw:
      return "try another --format";
    case ErrorCode::kWrite:
      return "give -o a folder that can be written";
  }
  return "";
}

}  // namespace moetrace::trace
