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

namespace moetrace::engine {

namespace fs = std::filesystem;

namespace {

constexpr const char* kIsItWhole = "is the download complete?";

}  // namespace

Result<FileMap> FileMap::open(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return Error{ErrorCode::kNotFound,
                 shown(path) + ": " + std::strerror(errno) + "; " + kIsItWhole};
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    return Error{ErrorCode::kNotFound, shown(path) + ": not a regular file; " + kIsItWhole};
  }
  if (info.st_size == 0) {
    ::close(fd);
    return Error{ErrorCode::kBadFile, shown(path) + ": the file is empty; " + kIsItWhole};
  }
  const auto size = static_cast<size_t>(info.st_size);
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  const int why = errno;
  ::close(fd);
  if (address == MAP_FAILED) {
    return Error{ErrorCode::kNoMemory,
                 shown(path) + ": can't map it: " + std::strerror(why) + "; free some memory"};
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
    return Error{ErrorCode::kNotFound, shown(path) + ": is a folder, not a file; " + advice};
  }
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  std::ostringstream content;
  if (in && in.peek() != std::ifstream::traits_type::eof()) content << in.rdbuf();
  if (!in.is_open() || in.bad()) {
    return Error{
        ErrorCode::kNotFound,
        shown(path) + ": " + (errno != 0 ? std::strerror(errno) : "can't read it") + "; " + advice};
  }
  return std::move(content).str();
}

Result<std::string> read_text(const fs::path& path, const std::string& advice) {
  constexpr std::string_view kUtf8Mark = "\xEF\xBB\xBF";
  auto text = read_file(path, advice);
  if (!text) return text;
  // UTF-16 and UTF-32 begin with a mark of their own, or have zeros between plain letters.
  if (text->starts_with("\xFF\xFE") || text->starts_with("\xFE\xFF") ||
      text->find('\0') != std::string::npos) {
    return Error{ErrorCode::kBadFile,
                 shown(path) + ": it is UTF-16, or no text; save the file as UTF-8"};
  }
  if (text->starts_with(kUtf8Mark)) text->erase(0, kUtf8Mark.size());
  return text;
}

Result<nlohmann::json> read_json(const fs::path& path) {
  auto text = read_text(path, kIsItWhole);
  if (!text) return text.error();
  auto parsed = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_discarded()) {
    return Error{ErrorCode::kBadFile, shown(path) + ": not valid JSON; " + kIsItWhole};
  }
  // nlohmann::json converts from and to nearly everything, so the result is told what it holds
  return Result<nlohmann::json>(boost::system::in_place_value, std::move(parsed));
}

Result<void> write_file(const fs::path& path, std::string_view content) {
  errno = 0;
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(content.data(), static_cast<std::streamsize>(content.size()));
  out.close();
  if (!out) {
    return Error{ErrorCode::kCantWrite, shown(path) + ": can't write it: " +
                                            (errno != 0 ? std::strerror(errno) : "unknown reason") +
                                            "; give a path that can be written"};
  }
  return {};
}

std::string shown(const fs::path& path) {
  std::string text = path.string();
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < ' ')
      c = '?';  // a message is one line whatever the name holds
  }
  return text;
}

}  // namespace moetrace::engine
