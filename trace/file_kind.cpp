#include "trace/file_kind.hpp"

#include <array>

#include "trace/json_cursor.hpp"

namespace moetrace::trace {
namespace {

using namespace std::string_view_literals;

struct Kind {
  std::string_view begins;
  std::string_view what;
  std::string_view remedy;
};

// The longer of two with the same beginning comes first.
constexpr std::array kKinds{
    Kind{"\xFF\xFE\0\0"sv, "it is UTF-32 text", "convert it: iconv -f UTF-32 -t UTF-8 FILE"},
    Kind{"\0\0\xFE\xFF"sv, "it is UTF-32 text", "convert it: iconv -f UTF-32 -t UTF-8 FILE"},
    Kind{"\xFF\xFE"sv, "it is UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 FILE"},
    Kind{"\xFE\xFF"sv, "it is UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 FILE"},
    Kind{"{\0"sv, "it is UTF-16 text", "convert it: iconv -f UTF-16LE -t UTF-8 FILE"},
    Kind{"\0{"sv, "it is UTF-16 text", "convert it: iconv -f UTF-16BE -t UTF-8 FILE"},
    Kind{"\xFD\x37zXZ\0"sv, "it is compressed with xz, and gzip and zstd are what is read here",
         "unpack it first: xz -dk FILE"},
    Kind{"BZh"sv, "it is compressed with bzip2, and gzip and zstd are what is read here",
         "unpack it first: bzip2 -dk FILE"},
    Kind{"PK\x03\x04"sv, "it is a zip archive, and gzip and zstd are what is read here",
         "unpack it first: unzip FILE"},
    Kind{"\x04\x22\x4D\x18"sv, "it is compressed with lz4, and gzip and zstd are what is read here",
         "unpack it first: lz4 -dk FILE"},
    Kind{"\x1F\x8B"sv, "it is compressed twice", "unpack it once: gzip -dk FILE, or zstd -dk FILE"},
    Kind{"\x28\xB5\x2F\xFD"sv, "it is compressed twice",
         "unpack it once: gzip -dk FILE, or zstd -dk FILE"},
    Kind{"MOETRACE"sv, "it is a ring segment",
         "run moetraced, which drains the ring into a trace file"},
    Kind{"MOETRCTL"sv, "it is the control page of a ring segment",
         "run moetraced, which drains the ring into a trace file"},
};

std::string_view without_blanks(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r");
  return first == std::string_view::npos
             ? ""
             : text.substr(first, text.find_last_not_of(" \t\r") + 1 - first);
}

}  // namespace

Packing packing_of(std::string_view first) {
  if (first.starts_with("\x1F\x8B")) return Packing::kGzip;
  // A file of zstd may begin with a frame to be skipped, as those of pzstd do.
  const bool skippable = first.size() >= kPackingBytes && (first[0] & 0xF0) == 0x50 &&
                         first.substr(1, 3) == "\x2A\x4D\x18";
  return first.starts_with("\x28\xB5\x2F\xFD") || skippable ? Packing::kZstd : Packing::kNone;
}

Error not_a_trace(std::string_view line) {
  for (const Kind& kind : kKinds) {
    if (line.starts_with(kind.begins)) {
      return {ErrorCode::kNoMeta, std::string(kind.what), std::string(kind.remedy)};
    }
  }
  if (!is_json_text(line)) return {ErrorCode::kNoMeta, "it is binary data"};
  const std::string_view text = without_blanks(line);
  if (text == "[" || text.starts_with("[{")) {
    return {ErrorCode::kNoMeta, "it is a JSON array",
            "write its elements one a line: jq -c '.[]' FILE"};
  }
  if (text == "{") {
    return {ErrorCode::kNoMeta, "its JSON objects stretch over several lines",
            "write one object a line: jq -c . FILE"};
  }
  return {ErrorCode::kNoMeta, "its first line is not a JSON object"};
}

}  // namespace moetrace::trace
