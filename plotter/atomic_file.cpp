#include "plotter/atomic_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>

namespace moetrace::plot {
namespace {

using trace::Error;
using trace::ErrorCode;

Error write_error(const std::string& path, int error_number) {
  return {ErrorCode::kWrite, path + ": " + std::strerror(error_number)};
}

// 0, or the errno of what failed.
int write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return 0;
}

}  // namespace

trace::Result<void> write_atomically(const std::string& path, std::string_view bytes) {
  const std::string draft = path + ".tmp." + std::to_string(::getpid());
  // The draft's name is predictable, so remove a file or link that already has it.
  ::unlink(draft.c_str());
  const int fd = ::open(draft.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
  if (fd < 0) return write_error(path, errno);
  int failed = write_all(fd, bytes);
  if (::close(fd) != 0 && failed == 0) failed = errno;
  if (failed == 0 && std::rename(draft.c_str(), path.c_str()) != 0) failed = errno;
  if (failed != 0) {
    ::unlink(draft.c_str());
    return write_error(path, failed);
  }
  return {};
}

trace::Result<void> make_folder(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (!error && !std::filesystem::is_directory(path, error)) {
    error = std::make_error_code(std::errc::not_a_directory);
  }
  if (error) return Error{ErrorCode::kWrite, path + ": " + error.message()};
  return {};
}

}  // namespace moetrace::plot
