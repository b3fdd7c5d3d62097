#include "daemon/collector/trace_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "daemon/collector/resume.hpp"

namespace moetrace {

Result<TraceFile> TraceFile::open(const std::string& path, const std::string& trace_id) {
  std::error_code ignored;
  const auto parent = std::filesystem::path(path).parent_path();
  if (!parent.empty()) std::filesystem::create_directories(parent, ignored);

  TraceFile file;
  file.path_ = path;
  // A trace is as private as the text: routing can give tokens away.
  file.fd_ = UniqueFd(::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0640));
  if (!file.fd_.valid()) {
    return Error{
        errno == EACCES ? ErrorCode::kPermission : ErrorCode::kSystem,
        path + ": can't open it: " + std::strerror(errno) + "; give an output that can be written"};
  }
  auto point = find_resume_point(file.fd_.get(), path, trace_id);
  if (!point) return point.error();
  const std::uint64_t whole = *point ? (*point)->whole_bytes : 0;
  // A torn line at the end was never counted as consumed: its rows are still in the ring and are
  // written again, whole.
  if (::ftruncate(file.fd_.get(), static_cast<off_t>(whole)) != 0) {
    return Error{ErrorCode::kSystem, path + ": can't cut a torn line off: " + std::strerror(errno)};
  }
  if (*point) file.position_ = (*point)->position;
  return file;
}

bool TraceFile::append(std::string_view text) {
  while (written_ < text.size()) {
    const ssize_t wrote = ::write(fd_.get(), text.data() + written_, text.size() - written_);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) {
      error_ = path_ + ": can't write: " + std::strerror(wrote < 0 ? errno : ENOSPC) +
               "; make room, the rings hold what comes meanwhile";
      return false;
    }
    written_ += static_cast<std::size_t>(wrote);
  }
  written_ = 0;
  return true;
}

void TraceFile::sync() {
  ::fdatasync(fd_.get());
}

}  // namespace moetrace
