#include "daemon/collector/output_template.hpp"

#include <array>
#include <ctime>
#include <filesystem>
#include <optional>
#include <vector>

#include "common/utf8.hpp"
#include "daemon/config/near_name.hpp"

namespace moetrace {
namespace {

// A file name has at most 255 bytes. Two values, a trace id and the number of a part fit.
constexpr std::size_t kMostValueBytes = 100;

constexpr std::array kPlaceholders = {"model", "host", "rank", "trace", "date"};

// A piece of a template: plain text, or the name of a placeholder.
struct Piece {
  std::string text;
  bool placeholder = false;
};

struct Pieces {
  std::vector<Piece> pieces;
  std::string error;
};

std::string braced(std::string_view name) {
  return "{" + std::string(name) + "}";
}

std::string unknown_placeholder(std::string_view name) {
  std::string known;
  for (const char* placeholder : kPlaceholders) {
    if (name == placeholder) return "";
    known += (known.empty() ? "" : ", ") + braced(placeholder);
  }
  const std::string near = near_name(name, {kPlaceholders.begin(), kPlaceholders.end()});
  return "unknown placeholder " + braced(name) + "; " +
         (near.empty() ? "use " + known + ", or {{ for a brace"
                       : "did you mean " + braced(near) + "?");
}

Pieces pieces_of(std::string_view text) {
  Pieces found;
  std::string plain;
  while (!text.empty()) {
    if (text.starts_with("{{") || text.starts_with("}}")) {
      plain += text[0];
      text.remove_prefix(2);
    } else if (text[0] == '{') {
      const std::size_t end = text.find('}');
      if (end == std::string_view::npos) {
        found.error = "'{' has no '}'; write {{ for a brace";
        return found;
      }
      const std::string_view name = text.substr(1, end - 1);
      found.error = unknown_placeholder(name);
      if (!found.error.empty()) return found;
      found.pieces.push_back({std::move(plain), false});
      found.pieces.push_back({std::string(name), true});
      plain.clear();
      text.remove_prefix(end + 1);
    } else {
      plain += text[0];
      text.remove_prefix(1);
    }
  }
  found.pieces.push_back({std::move(plain), false});
  return found;
}

std::string date_of(std::int64_t realtime_ns) {
  constexpr std::int64_t kSecond = 1'000'000'000;
  const std::time_t seconds = realtime_ns / kSecond - (realtime_ns % kSecond < 0 ? 1 : 0);
  std::tm day{};
  ::gmtime_r(&seconds, &day);
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%d", &day);
  return text.data();
}

bool is_safe(std::uint32_t character) {
  return character >= ' ' && character != '/' && (character < 0x7f || character > 0x9f);
}

std::string file_name_safe(std::string_view value) {
  if (value.empty()) return "unknown";
  std::string safe;
  for (std::size_t at = 0; at < value.size();) {
    const CodePoint point = decode_utf8(value, at);
    std::string_view bytes = value.substr(at, point.bytes);
    if (!point.valid || !is_safe(point.value) || (at == 0 && bytes == ".")) bytes = "_";
    if (safe.size() + bytes.size() > kMostValueBytes) break;
    safe += bytes;
    at += point.bytes;
  }
  return safe;
}

std::string value_of(std::string_view placeholder, const TraceLabels& labels) {
  if (placeholder == "model") return file_name_safe(labels.model);
  if (placeholder == "host") return file_name_safe(labels.host);
  if (placeholder == "rank") return std::to_string(labels.rank);
  if (placeholder == "date") return date_of(labels.created_realtime_ns);
  return labels.trace_id;
}

}  // namespace

std::string template_error(std::string_view text) {
  return pieces_of(text).error;
}

bool has_placeholders(std::string_view text) {
  return pieces_of(text).pieces.size() > 1;
}

bool tells_ranks_apart(std::string_view text) {
  for (const Piece& piece : pieces_of(text).pieces) {
    if (piece.placeholder && (piece.text == "rank" || piece.text == "trace")) return true;
  }
  return false;
}

std::string fill_template(std::string_view text, const TraceLabels& labels) {
  std::string filled;
  for (const Piece& piece : pieces_of(text).pieces)
    filled += piece.placeholder ? value_of(piece.text, labels) : piece.text;
  return filled;
}

std::string fixed_folder(std::string_view text) {
  std::filesystem::path folder = std::filesystem::path(text).parent_path();
  while (has_placeholders(folder.string())) folder = folder.parent_path();
  return folder.empty() ? "." : fill_template(folder.string(), {});
}

std::string template_of(std::string_view name) {
  std::string text;
  for (const char byte : name)
    text += byte == '{' || byte == '}' ? std::string(2, byte) : std::string(1, byte);
  return text;
}

}  // namespace moetrace
