#include "daemon/runtime_folder.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

namespace moetrace {
namespace {

constexpr const char* kServiceFolder = "/run/moetrace";

// The variable's value, or "" if it is unset.
std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

bool ours_or_root(uid_t owner) {
  return owner == ::geteuid() || owner == 0;
}

// The service's folder is set-group-id and shared by a group; any other folder belongs to one user.
bool for_a_group(const struct stat& folder) {
  return (folder.st_mode & S_ISGID) != 0 && ours_or_root(folder.st_uid);
}

// Why another user could rename or remove the folder itself, or "".
std::string distrust_parent(const std::string& folder) {
  const std::string parent = std::filesystem::path(folder).parent_path().string();
  struct stat status {};
  if (::stat(parent.c_str(), &status) != 0) return parent + ": " + std::strerror(errno);
  if (!ours_or_root(status.st_uid))
    return parent + " belongs to uid " + std::to_string(status.st_uid);
  const bool all_may_write = (status.st_mode & S_IWOTH) != 0 && (status.st_mode & S_ISVTX) == 0;
  return all_may_write ? "all users can write in " + parent : "";
}

}  // namespace

std::vector<std::string> runtime_folders() {
  std::vector<std::string> folders;
  if (::access(kServiceFolder, R_OK | X_OK) == 0) folders.emplace_back(kServiceFolder);
  const std::string own = "/moetrace-" + std::to_string(::getuid());
  const std::string temporary = environment("TMPDIR");
  if (const std::string runtime = environment("XDG_RUNTIME_DIR"); !runtime.empty()) {
    folders.push_back(runtime + "/moetrace");
  } else if (!temporary.empty()) {
    folders.push_back(temporary + own);
  }
  if (const std::string last = "/tmp" + own; folders.empty() || folders.back() != last)
    folders.push_back(last);
  return folders;
}

std::string prepare_runtime_folder(const std::string& folder) {
  if (folder == kServiceFolder && ::access(folder.c_str(), W_OK | X_OK) != 0)
    return std::strerror(errno);
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    return std::string("can't make it: ") + std::strerror(errno);
  std::string why = distrust(folder);
  if (!why.empty()) return why;
  return ::access(folder.c_str(), W_OK | X_OK) == 0 ? "" : std::strerror(errno);
}

std::string distrust(const std::string& folder) {
  struct stat status {};
  if (::lstat(folder.c_str(), &status) != 0) return std::strerror(errno);
  if (S_ISLNK(status.st_mode)) return "it is a link";
  if (!S_ISDIR(status.st_mode)) return "it is not a folder";
  if (for_a_group(status))
    return (status.st_mode & S_IWOTH) != 0 ? "all users can write in it" : "";
  if (status.st_uid != ::geteuid()) return "it belongs to uid " + std::to_string(status.st_uid);
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0) return "other users can write in it";
  return distrust_parent(folder);
}

bool trusted_file(const std::string& folder, const struct stat& file) {
  if (!S_ISREG(file.st_mode) && !S_ISSOCK(file.st_mode)) return false;
  struct stat status {};
  if (::lstat(folder.c_str(), &status) != 0) return false;
  return ours_or_root(file.st_uid) || for_a_group(status);
}

}  // namespace moetrace
