// Reads and writes whole files, and maps large ones.
#pragma once

#include <cstddef>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>

#include "engine/errors.hpp"

namespace moetrace::engine {

// A file mapped read-only. The bytes keep their address until the object is destroyed; a move hands
// them over.
class FileMap {
 public:
  static Result<FileMap> open(const std::filesystem::path& path);

  FileMap(FileMap&& other) noexcept;
  FileMap& operator=(FileMap&& other) noexcept;
  FileMap(const FileMap&) = delete;
  FileMap& operator=(const FileMap&) = delete;
  ~FileMap();

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  explicit FileMap(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::span<const std::byte> bytes_;
};

// Reads the whole file. kNotFound says why that failed, and ends with `advice`.
Result<std::string> read_file(const std::filesystem::path& path,
                              const std::string& advice = "check the path");

// The same for a text in UTF-8. Drops the byte order mark that some editors put first. kBadFile if
// the file is UTF-16 or UTF-32, as some other editors save it.
Result<std::string> read_text(const std::filesystem::path& path,
                              const std::string& advice = "check the path");

// Reads the whole file as JSON; kBadFile if that is invalid.
Result<nlohmann::json> read_json(const std::filesystem::path& path);

// Replaces the file's content; kCantWrite if any byte can't be written.
Result<void> write_file(const std::filesystem::path& path, std::string_view content);

// The text as a message shows it: each control character becomes '?', so that the message stays one
// line.
std::string one_line(std::string text);
// The same of a path.
std::string shown(const std::filesystem::path& path);

}  // namespace moetrace::engine
