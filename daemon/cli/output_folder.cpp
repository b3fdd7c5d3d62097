#include "daemon/cli/output_folder.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "daemon/collector/output_template.hpp"
#include "shm/file_lock.hpp"

namespace moetrace::cli {
namespace {

namespace fs = std::filesystem;

// Why no file can be made in the folder, or "".
std::string unwritable_folder(const fs::path& folder) {
  std::error_code failed;
  if (!fs::is_directory(folder, failed))
    return failed ? failed.message() : folder.string() + " is not a folder";
  return ::access(folder.c_str(), W_OK | X_OK) == 0 ? "" : std::strerror(errno);
}

// Tries it under another name: only the collector makes a file of the wanted name.
std::string unwritable_probe(const fs::path& folder) {
  std::string probe = (folder / ".moetrace-run.XXXXXX").string();
  const UniqueFd fd(::mkostemp(probe.data(), O_CLOEXEC));
  if (!fd.valid()) return std::strerror(errno);
  return ::unlink(probe.c_str()) == 0 ? "" : std::strerror(errno);
}

// Why the file at this name can't become the trace, or "". A free name is good.
std::string unwritable_file(const std::string& file) {
  const UniqueFd fd(::open(file.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return errno == ENOENT ? "" : std::strerror(errno);
  struct stat status {};
  const bool regular = ::fstat(fd.get(), &status) == 0 && S_ISREG(status.st_mode);
  return regular ? "" : "it is a device or a pipe";
}

}  // namespace

std::string TraceFolder::prepare(const std::string& file) {
  if (file.find('\n') != std::string::npos)
    return "-o: the name of the trace has a line break; give a name without one";
  const fs::path folder = fixed_folder(file);
  std::vector<fs::path> missing;
  std::error_code failed;
  for (fs::path part = folder; !part.empty() && !fs::exists(part, failed);
       part = part.parent_path())
    missing.push_back(part);
  failed.clear();
  for (; !failed && !missing.empty(); missing.pop_back()) {
    if (fs::create_directory(missing.back(), failed)) made_.push_back(missing.back().string());
  }
  std::string why = failed ? failed.message() : unwritable_folder(folder);
  if (why.empty() && !has_placeholders(file)) why = unwritable_file(fill_template(file, {}));
  if (why.empty()) why = unwritable_probe(folder);
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
  std::string why = unwritable_folder(there.empty() ? "." : there);
  if (why.empty()) return why;
  return folder + ": can't draw pictures there: " + why +
         "; give --plot a folder that can be written";
}

}  // namespace moetrace::cli
