#include "trace/errors.hpp"

namespace moetrace::trace {

namespace {

std::string_view about_all(ErrorCode code) {
  switch (code) {
    case ErrorCode::kOpen:
      return "give a trace file that can be read";
    case ErrorCode::kRead:
      return "copy the file to another disk";
    case ErrorCode::kEmpty:
      return "wait until its collector has written to it, or give another file";
    case ErrorCode::kNoMeta:
      return "give a file that moetraced or moetrace run has written, or a log of vLLM's MoE patch";
    case ErrorCode::kNoEnd:
      return "wait until its writer has ended the line";
    case ErrorCode::kTooLong:
      return "give a file with one JSON object a line";
    case ErrorCode::kBadMeta:
    case ErrorCode::kBadJson:
    case ErrorCode::kBadLine:
      return "look at the line";
    case ErrorCode::kBadRows:
      return "copy the file again";
    case ErrorCode::kNoRows:
    case ErrorCode::kNoLines:
      return "put both files into one folder";
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
    case ErrorCode::kWrongTrace:
      return "the file was changed, or its writer is broken";
    case ErrorCode::kDraw:
      return "try another --format";
    case ErrorCode::kWrite:
      return "give -o a folder that can be written";
  }
  return "";
}

}  // namespace

std::string what_to_try(const Error& error) {
  return error.remedy.empty() ? std::string(about_all(error.code)) : error.remedy;
}

}  // namespace moetrace::trace
