#include "daemon/cli/new_file.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "common/text.hpp"

namespace moetrace::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kBuffer = std::size_t{1} << 20;

// The temporary files of this process, for the signal handler. A conversion has two.
struct Temporary {
  std::array<char, PATH_MAX> path{};
  std::atomic<bool> there = false;
};
std::array<Temporary, 2> temporaries;

void remember(const std::string& path) {
  for (Temporary& slot : temporaries) {
    if (slot.there || path.size() >= slot.path.size()) continue;
    path.copy(slot.path.data(), path.size());
    slot.path[path.size()] = '\0';
    slot.there = true;
    return;
  }
}

void forget(const std::string& path) {
  for (Temporary& slot : temporaries) {
    if (slot.there && path == slot.path.data()) slot.there = false;
  }
}

// Calls only what a handler may call.
extern "C" void end_by_signal(int signal) {
  bool removed = false;
  for (const Temporary& slot : temporaries)
    removed |= slot.there && ::unlink(slot.path.data()) == 0;
  constexpr std::string_view kLine =
      "\nmoetrace: convert: interrupted; nothing was written; run it again\n";
  const bool begins_line = ::isatty(STDERR_FILENO) == 0;
  if (removed && signal != SIGPIPE) {
    const std::string_view line = kLine.substr(begins_line ? 1 : 0);
    static_cast<void>(!::write(STDERR_FILENO, line.data(), line.size()));
  }
  ::signal(signal, SIG_DFL);
  ::raise(signal);
}

}  // namespace

void remove_new_files_on_signals() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) {
    struct sigaction before {};
    if (::sigaction(signal, nullptr, &before) == 0 && before.sa_handler == SIG_IGN) continue;
    struct sigaction action {};
    action.sa_handler = end_by_signal;
    // The handler raises its signal again, which must come at once.
    action.sa_flags = SA_NODEFER;
    ::sigemptyset(&action.sa_mask);
    ::sigaction(signal, &action, nullptr);
  }
}

Failure NewFile::failed(const char* doing, int error_number) const {
  const bool full = error_number == ENOSPC || error_number == EDQUOT || error_number == EFBIG;
  const std::string name = path_ == "-" ? "standard output" : path_;
  return {kFailed,
          name + ": can't " + doing + ": " + std::strerror(error_number) +
              (path_ == "-" ? "; what was written is not complete" : "; nothing was written") +
              (full ? "; make room, or give another -o" : "; give another -o")};
}

boost::system::result<std::unique_ptr<NewFile>, Failure> NewFile::begin(const std::string& path,
                                                                        bool force) {
  std::unique_ptr<NewFile> file(new NewFile(path, force));
  if (path == "-") {
    file->fd_ = STDOUT_FILENO;
    return file;
  }
  std::error_code unknown;
  const auto status = fs::symlink_status(path, unknown);
  if (fs::exists(status) && !force)
    return Failure{kFailed, path + ": exists; give another -o, or --force to replace it"};
  if (fs::exists(status) && !fs::is_regular_file(fs::status(path, unknown)))
    return Failure{kFailed, path + ": is not a file; give another -o"};
  const fs::path name(path);
  file->temporary_ = (name.parent_path() /
                      ("." + name.filename().string() + ".partial-" + std::to_string(::getpid())))
                         .string();
  // A process of our number may have been killed.
  ::unlink(file->temporary_.c_str());
  remember(file->temporary_);
  // A trace is as private as the text: routing can reveal tokens.
  file->own_ =
      UniqueFd(::open(file->temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640));
  if (!file->own_.valid()) return file->failed("make it", errno);
  file->fd_ = file->own_.get();
  return file;
}

NewFile::~NewFile() {
  if (temporary_.empty()) return;
  ::unlink(temporary_.c_str());
  forget(temporary_);
}

std::optional<Failure> NewFile::write(std::string_view text) {
  size_ += text.size();
  if (buffer_.size() + text.size() < kBuffer) {
    buffer_ += text;
    return std::nullopt;
  }
  if (auto wrong = flush(buffer_)) return wrong;
  buffer_.clear();
  if (text.size() >= kBuffer) return flush(text);
  buffer_ += text;
  return std::nullopt;
}

std::optional<Failure> NewFile::flush(std::string_view text) {
  while (!text.empty()) {
    const ssize_t wrote = ::write(fd_, text.data(), text.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return failed("write it", wrote < 0 ? errno : ENOSPC);
    text.remove_prefix(static_cast<std::size_t>(wrote));
  }
  return std::nullopt;
}

std::optional<Failure> NewFile::complete() {
  if (auto wrong = flush(buffer_)) return wrong;
  buffer_.clear();
  if (temporary_.empty()) return std::nullopt;
  // The user may delete the input next. A file system without sync counts as synced.
  if (::fdatasync(fd_) == 0 || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP)
    return std::nullopt;
  return failed("sync it", errno);
}

std::optional<Failure> NewFile::publish() {
  if (temporary_.empty()) return std::nullopt;
  int failed_with = 0;
  if (!force_ &&
      ::renameat2(AT_FDCWD, temporary_.c_str(), AT_FDCWD, path_.c_str(), RENAME_NOREPLACE) != 0) {
    failed_with = errno;
    if (failed_with == EEXIST)
      return Failure{kFailed, path_ + ": exists by now; give another -o, or --force to replace it"};
  }
  // A file system may lack RENAME_NOREPLACE; begin() has looked.
  const bool plain = force_ || failed_with == EINVAL || failed_with == ENOSYS;
  if (plain) failed_with = ::rename(temporary_.c_str(), path_.c_str()) == 0 ? 0 : errno;
  if (failed_with != 0) return failed("give it its name", failed_with);
  forget(temporary_);
  temporary_.clear();
  return std::nullopt;
}

void NewFile::withdraw() {
  ::unlink(path_.c_str());
}

}  // namespace moetrace::cli
