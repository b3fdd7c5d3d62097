#include "daemon/collector/kept_parts.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>

#include "daemon/collector/arrow_message.hpp"
#include "daemon/collector/trace_file.hpp"

namespace moetrace {
namespace {

// A file that was found to be ours, held open until its name is gone.
struct Found {
  std::string path;
  UniqueFd fd;
};

bool leads_to(const std::string& path, int fd) {
  struct stat here {};
  struct stat there {};
  return ::fstat(fd, &here) == 0 && ::lstat(path.c_str(), &there) == 0 &&
         here.st_dev == there.st_dev && here.st_ino == there.st_ino;
}

// "", or why the name stays.
std::string remove(const Found& file) {
  if (!leads_to(file.path, file.fd.get()) || ::unlink(file.path.c_str()) == 0 || errno == ENOENT)
    return {};
  return file.path + ": can't remove it, as keep asks: " + std::strerror(errno) +
         "; make its folder writable, or remove the file";
}

// The rows file beside the lines, if it is this part's. A part whose rows are lines has none.
std::optional<Found> rows_of(const std::string& lines, const Opening& opening) {
  if (!opening.rows || opening.rows->file.empty()) return std::nullopt;
  const std::string schema = schema_message(opening.rows->form, opening.trace_id, opening.part);
  for (const std::string& path :
       {rows_path(lines),
        std::filesystem::path(lines).replace_filename(opening.rows->file).string()}) {
    auto fd = AppendFile::look({path});
    if (!fd || !fd->valid()) continue;
    const auto begins = begins_with(fd->get(), path, schema);
    if (begins && *begins) return Found{path, std::move(*fd)};
  }
  return std::nullopt;
}

struct OldPart {
  Found lines;
  std::optional<Found> rows;
};

// A part that an earlier look has found, opened anew without following a link.
std::optional<OldPart> open_part(const std::string& path, const std::string& trace_id,
                                 std::uint64_t part) {
  auto fd = AppendFile::look({path});
  if (!fd || !fd->valid()) return std::nullopt;
  const auto opening = read_opening(fd->get(), path);
  if (!opening || !*opening || (*opening)->trace_id != trace_id || (*opening)->part != part)
    return std::nullopt;
  auto rows = rows_of(path, **opening);
  return OldPart{{path, std::move(*fd)}, std::move(rows)};
}

}  // namespace

RemovedParts remove_parts_before(const OutputNames& names, const std::string& trace_id,
                                 std::uint64_t first_kept) {
  RemovedParts removed;
  const auto taken = names.taken();
  if (!taken) {
    removed.problem = taken.error().message;
    return removed;
  }
  std::map<std::uint64_t, std::vector<std::string>> old;
  for (const std::uint64_t number : *taken) {
    const std::string path = names.name(number);
    const auto opening = TraceFile::look({path}, trace_id);
    if (opening && *opening && (*opening)->part < first_kept) old[(*opening)->part].push_back(path);
  }
  for (const auto& [part, paths] : old) {
    if (paths.size() > 1) continue;
    const auto files = open_part(paths[0], trace_id, part);
    if (!files) continue;
    // The rows first: a collector that dies in between leaves the lines, by which the next one
    // finds what is left.
    std::string why = files->rows ? remove(*files->rows) : "";
    if (why.empty()) why = remove(files->lines);
    if (!why.empty()) {
      removed.problem = why;
      continue;
    }
    removed.parts.push_back(part);
    removed.paths.push_back(paths[0]);
  }
  return removed;
}

std::string numbers_text(const std::vector<std::uint64_t>& numbers) {
  if (numbers.size() > 1 && numbers.back() - numbers.front() + 1 == numbers.size())
    return std::to_string(numbers.front()) + " to " + std::to_string(numbers.back());
  std::string text;
  for (const std::uint64_t number : numbers)
    text += (text.empty() ? "" : ", ") + std::to_string(number);
  return text;
}

}  // namespace moetrace
