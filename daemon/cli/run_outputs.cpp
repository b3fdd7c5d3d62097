#include "daemon/cli/run_outputs.hpp"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <string_view>

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

}  // namespace

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
