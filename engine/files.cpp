#include "engine/files.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <system_error>
#include <utility>

namespace moetrace::engine {

namespace fs = std::filesystem;

namespace {

constexpr const char* kCheckDownload = "check that the download is complete";

}  // namespace

Result<FileMap> FileMap::open(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return Error{ErrorCode::kNotFound,
                 shown(path) + ": " + std::strerror(errno) + "; " + kCheckDownload};
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    return Error{ErrorCode::kNotFound, shown(path) + ": not a regular file; " + kCheckDownload};
  }
  if (info.st_size == 0) {
    ::close(fd);
    return Error{ErrorCode::kBadFile, shown(path) + ": the file is empty; " + kCheckDownload};
  }
  const auto size = static_cast<size_t>(info.st_size);
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  const int why = errno;
  ::close(fd);
  if (address == MAP_FAILED) {
    return Error{ErrorCode::kNoMemory, shown(path) + ": can't map " + std::to_string(size) +
                                           " bytes: " + std::strerror(why) + "; free some memory"};
  }
  return FileMap(std::span(static_cast<const std::byte*>(address), size));
}

FileMap::FileMap(FileMap&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

FileMap& FileMap::operator=(FileMap&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

FileMap::~FileMap() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

Result<std::string> read_file(const fs::path& path, const std::string& advice) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    return Error{ErrorCode::kNotFound,
                 shown(path) + ": expected a file, but it is a folder; " + advice};
  }
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  std::ostringstream content;
  if (in && in.peek() != std::ifstream::traits_type::eof()) content << in.rdbuf();
  if (!in.is_open() || in.bad()) {
    return Error{ErrorCode::kNotFound,
                 shown(path) + ": " + (errno != 0 ? std::strerror(errno) : "can't read the file") +
                     "; " + advice};
  }
  return std::move(content).str();
}

Result<std::string> read_text(const fs::path& path, const std::string& advice) {
  constexpr std::string_view kUtf8Mark = "\xEF\xBB\xBF";
  auto text = read_file(path, advice);
  if (!text) return text;
  // A file in UTF-16 or UTF-32 begins with a byte order mark, or has zero bytes between its
  // letters.
  if (text->starts_with("\xFF\xFE") || text->starts_with("\xFE\xFF") ||
      text->find('\0') != std::string::npos) {
    return Error{ErrorCode::kBadFile,
                 shown(path) + ": UTF-16 or binary data; save the file as UTF-8"};
  }
  if (text->starts_with(kUtf8Mark)) text->erase(0, kUtf8Mark.size());
  return text;
}

Result<nlohmann::json> read_json(const fs::path& path) {
  auto text = read_text(path, kCheckDownload);
  if (!text) return text.error();
  auto parsed = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_discarded()) {
    return Error{ErrorCode::kBadFile, shown(path) + ": invalid JSON; " + kCheckDownload};
  }
  // nlohmann::json converts from and to nearly every type, so name the member to construct.
  return Result<nlohmann::json>(boost::system::in_place_value, std::move(parsed));
}

Result<void> write_file(const fs::path& path, std::string_view content) {
  errno = 0;
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(content.data(), static_cast<std::streamsize>(content.size()));
  out.close();
  if (!out) {
    return Error{ErrorCode::kCantWrite, shown(path) + ": can't write the file: " +
                                            (errno != 0 ? std::strerror(errno) : "unknown reason") +
                                            "; check the path, its permissions and the free space"};
  }
  return {};
}

std::string one_line(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < ' ') c = '?';
  }
  return text;
}

std::string shown(const fs::path& path) {
  return one_line(path.string());
}

}  // namespace moetrace::engine
