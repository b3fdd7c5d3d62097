#include "daemon/collector/output_names.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <system_error>

namespace moetrace {
namespace {

namespace fs = std::filesystem;

// The number in `.<number>`; nothing for any other text.
std::optional<std::uint64_t> number_in(std::string_view text) {
  if (text.size() < 2 || text[0] != '.' || text[1] == '0') return std::nullopt;
  std::uint64_t number = 0;
  const auto [end, failed] = std::from_chars(text.data() + 1, text.data() + text.size(), number);
  if (failed != std::errc{} || end != text.data() + text.size() || number < 2) return std::nullopt;
  return number;
}

}  // namespace

OutputNames::OutputNames(const CollectorOptions& options, const TraceLabels& labels) {
  // Dots of a placeholder's value begin no extension.
  const fs::path wanted = options.output.empty() ? fs::path(options.output_dir) / "{trace}.jsonl"
                                                 : fs::path(options.output);
  const std::string folder = wanted.parent_path().string();
  stem_ = wanted.stem().string();
  extension_ = wanted.extension().string();
  if (extension_.find('}') != std::string::npos) {
    stem_ += extension_;
    extension_.clear();
  }
  chosen_ = labels.rank == 0 && !has_placeholders(wanted.string());
  folder_ = folder.empty() ? "." : fill_template(folder, labels);
  stem_ = fill_template(stem_, labels);
  extension_ = fill_template(extension_, labels);
  if (labels.rank != 0 && !tells_ranks_apart(wanted.string()))
    stem_ += ".rank" + std::to_string(labels.rank);
  // As the user wrote it: without "./".
  plain_ = (folder.empty() ? fs::path() : fs::path(folder_)) / (stem_ + extension_);
}

std::string OutputNames::name(std::uint64_t number) const {
  if (number == 1) return plain_;
  return fs::path(plain_)
      .replace_filename(stem_ + "." + std::to_string(number) + extension_)
      .string();
}

Result<std::vector<std::uint64_t>> OutputNames::taken() const {
  std::vector<std::uint64_t> numbers;
  std::error_code failed;
  for (fs::directory_iterator entry(folder_, failed), end; !failed && entry != end;
       entry.increment(failed)) {
    const std::string file = entry->path().filename().string();
    std::string_view middle = file;
    if (!middle.starts_with(stem_) || !middle.ends_with(extension_) ||
        middle.size() < stem_.size() + extension_.size())
      continue;
    middle.remove_prefix(stem_.size());
    middle.remove_suffix(extension_.size());
    if (middle.empty()) {
      numbers.push_back(1);
    } else if (const auto number = number_in(middle)) {
      numbers.push_back(*number);
    }
  }
  if (failed && failed != std::errc::no_such_file_or_directory) {
    return Error{
        failed == std::errc::permission_denied ? ErrorCode::kPermission : ErrorCode::kSystem,
        folder_ + ": can't list the traces there: " + failed.message() +
            "; make the folder readable; the ring holds the rows meanwhile"};
  }
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

std::optional<Error> prepare_output(const CollectorOptions& options) {
  const std::string& wanted = options.output;
  const fs::path folder =
      fixed_folder(wanted.empty() ? options.output_dir + "/{trace}.jsonl" : wanted);
  std::error_code why;
  fs::create_directories(folder, why);
  if (!why && ::access(folder.c_str(), W_OK | X_OK) != 0) why = {errno, std::system_category()};
  if (why) {
    return Error{ErrorCode::kPermission, folder.string() +
                                             ": can't write traces there: " + why.message() +
                                             "; give an output that can be written"};
  }
  if (wanted.empty() || has_placeholders(wanted)) return std::nullopt;
  const std::string file = fill_template(wanted, {});
  struct stat status {};
  if (::stat(file.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    return Error{
        ErrorCode::kBadArgument,
        file + ": is a folder, a device or a pipe; give --output the name of a regular file"};
  }
  return std::nullopt;
}

}  // namespace moetrace
