// Reading and writing whole files, and mapping large ones.
#pragma once

#include <cstddef>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>

#include "engine/errors.hpp"

namespace moetrace::engine {

// A file mapped read-only. The bytes stay valid, and at their address, for the object's life, also
// when it is moved.
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

// The whole file; kNotFound says why it can't be read, and ends with `advice`.
Result<std::string> read_file(const std::filesystem::path& path,
                              const std::string& advice = "check the path");

// The same for a text in UTF-8, without the byte order mark that some editors put before it;
// kBadFile for UTF-16 and UTF-32, which other editors save.
Result<std::string> read_text(const std::filesystem::path& path,
                              const std::string& advice = "check the path");

// The whole file as JSON; kBadFile if it isn't.
Result<nlohmann::json> read_json(const std::filesystem::path& path);

// Replaces the file's content; kCantWrite if any byte of it could not be written.
Result<void> write_file(const std::filesystem::path& path, std::string_view content);

// The path as a message shows it: control characters replaced, so that a message stays one line.
std::string shown(const std::filesystem::path& path);

}  // namespace moetrace::engine
