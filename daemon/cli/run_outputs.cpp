#include "daemon/cli/run_outputs.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "shm/file_lock.hpp"

namespace moetrace::cli {
namespace {

namespace fs = std::filesystem;

// Takes digits off the front; false if there are none.
bool take_digits(std::string_view& text) {
  const auto end = std::find_if_not(text.begin(), text.end(),
                                    [](unsigned char c) { return std::isdigit(c) != 0; });
  const auto count = static_cast<std::size_t>(end - text.begin());
  text.remove_prefix(count);
  return count > 0;
}

bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// Why nothing can be made in the folder, or "".
std::string unwritable_folder(const fs::path& folder) {
  std::error_code failed;
  if (!fs::is_directory(folder, failed))
    return failed ? failed.message() : folder.string() + " is no folder";
  return ::access(folder.c_str(), W_OK | X_OK) == 0 ? "" : std::strerror(errno);
}

// Tries it; a file that was not there is not there afterwards.
std::string unwritable_file(const std::string& file) {
  UniqueFd fd(::open(file.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (fd.valid()) {
    struct stat status {};
    const bool regular = ::fstat(fd.get(), &status) == 0 && S_ISREG(status.st_mode);
    return regular ? "" : "it is a device or a pipe";
  }
  if (errno != ENOENT) return std::strerror(errno);
  fd = UniqueFd(::open(file.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640));
  if (fd.valid()) return ::unlink(file.c_str()) == 0 ? "" : std::strerror(errno);
  return errno == EEXIST ? "" : std::strerror(errno);  // EEXIST: a link to what is not there yet
}

}  // namespace

std::string TraceFolder::prepare(const std::string& file) {
  const fs::path folder = fs::path(file).parent_path();
  std::vector<fs::path> missing;
  std::error_code failed;
  for (fs::path part = folder; !part.empty() && !fs::exists(part, failed);
       part = part.parent_path())
    missing.push_back(part);
  failed.clear();
  for (; !failed && !missing.empty(); missing.pop_back()) {
    if (fs::create_directory(missing.back(), failed)) made_.push_back(missing.back().string());
  }
  std::string why = failed ? failed.message() : unwritable_folder(folder.empty() ? "." : folder);
  if (why.empty()) why = unwritable_file(file);
  if (why.empty()) return why;
  return file + ": can't write the trace there: " + why + "; give -o a file that can be written";
}

TraceFolder::~TraceFolder() {
  for (; !made_.empty(); made_.pop_back()) ::rmdir(made_.back().c_str());
}

std::string plot_folder_error(const std::string& folder) {
  fs::path there = folder;
  std::error_code failed;
  while (!there.empty() && !fs::exists(there, failed)) there = there.parent_path();
  const std::string why = unwritable_folder(there.empty() ? "." : there);
  if (why.empty()) return why;
  return folder + ": can't draw pictures there: " + why +
         "; give --plot a folder that can be written";
}

RunOutputs::RunOutputs(std::string wanted) : wanted_(std::move(wanted)), before_(present()) {}

// <stem>[.rank<n>][.<k>]<extension>
bool RunOutputs::is_ours(const std::string& file_name) const {
  const fs::path wanted(wanted_);
  const std::string stem = wanted.stem().string();
  const std::string extension = wanted.extension().string();
  std::string_view middle = file_name;
  if (!take(middle, stem) || !middle.ends_with(extension)) return false;
  middle.remove_suffix(extension.size());
  if (take(middle, ".rank") && !take_digits(middle)) return false;
  if (take(middle, ".") && !take_digits(middle)) return false;
  return middle.empty();
}

std::map<std::string, RunOutputs::Stamp> RunOutputs::present() const {
  const fs::path folder = fs::path(wanted_).parent_path();
  std::map<std::string, Stamp> files;
  std::error_code failed;
  for (const auto& entry :
       fs::directory_iterator(folder.empty() ? fs::path(".") : folder, failed)) {
    const std::string name = entry.path().filename().string();
    if (!is_ours(name) || !entry.is_regular_file(failed)) continue;
    const auto changed = entry.last_write_time(failed).time_since_epoch().count();
    files[(folder / name).string()] = {entry.file_size(failed), static_cast<std::int64_t>(changed)};
  }
  return files;
}

std::vector<std::string> RunOutputs::written() const {
  std::vector<std::string> files;
  for (const auto& [path, stamp] : present()) {
    const auto earlier = before_.find(path);
    if (earlier == before_.end() || earlier->second != stamp) files.push_back(path);
  }
  std::stable_partition(files.begin(), files.end(),
                        [this](const std::string& path) { return path == wanted_; });
  return files;
}

}  // namespace moetrace::cli
