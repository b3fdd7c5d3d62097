#include "daemon/collector/size_limit.hpp"

#include <sys/stat.h>

#include <algorithm>

#include "daemon/collector/rows_form.hpp"

namespace moetrace {
namespace {

// `end`, `loss` and `torn` lines take less than 1 kB; a `request_end` line of each of the 4,096
// requests in a ring's table about 170 bytes with its name.
constexpr std::uint64_t kEndBytes = 1 << 20;
// A part with fewer rows says too little of their size.
constexpr std::uint64_t kEnoughRows = 4096;

// A row of a rows file as it is without compression: the fixed columns, the places, one bit for
// each null, and the row's share of a message's metadata.
std::uint64_t column_bytes(const RowsForm& form) {
  const std::uint64_t fixed = form.wide ? 30 : 18;
  const std::uint64_t id = form.num_experts > 256 ? 2 : 1;
  const std::uint64_t weight = form.weights == RowWeights::kFloat32   ? 4
                               : form.weights == RowWeights::kFloat16 ? 2
                                                                      : 0;
  return fixed + 2 + form.top_k * (id + weight) + form.top_k / 4 + 1;
}

// A `route` line: as this part's rows are, with an eighth more; before there are enough of them, as
// long as one with a name of 64 bytes and weights of 18 digits.
std::uint64_t line_bytes(const SegmentDrain& drain) {
  const std::uint64_t rows = drain.part_rows();
  if (rows < kEnoughRows) return 200 + std::uint64_t{drain.segment().map().header().top_k} * 24;
  const std::uint64_t bytes = (drain.part_bytes() - drain.head_bytes()) / rows + 1;
  return bytes + bytes / 8;
}

}  // namespace

std::uint64_t WrittenFiles::add(const std::string& lines_path) {
  forget(lines_path);
  std::uint64_t bytes = 0;
  for (const std::string& path : {lines_path, rows_path(lines_path)}) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) continue;
    const Entry entry{status.st_dev, status.st_ino, static_cast<std::uint64_t>(status.st_size)};
    files_.emplace(path, entry);
    bytes += entry.bytes;
  }
  bytes_ += bytes;
  return bytes;
}

void WrittenFiles::erase(const std::string& path) {
  const auto found = files_.find(path);
  if (found == files_.end()) return;
  bytes_ -= found->second.bytes;
  files_.erase(found);
}

void WrittenFiles::forget(const std::string& lines_path) {
  erase(lines_path);
  erase(rows_path(lines_path));
}

void WrittenFiles::look_again() {
  bytes_ = 0;
  for (auto file = files_.begin(); file != files_.end();) {
    struct stat status {};
    Entry& entry = file->second;
    if (::stat(file->first.c_str(), &status) != 0 || status.st_dev != entry.device ||
        status.st_ino != entry.inode) {
      file = files_.erase(file);
      continue;
    }
    entry.bytes = static_cast<std::uint64_t>(status.st_size);
    bytes_ += entry.bytes;
    ++file;
  }
}

std::uint64_t bytes_to_come(const SegmentDrain& drain) {
  const std::uint64_t row =
      drain.file().rows() ? column_bytes(*drain.file().rows()) : line_bytes(drain);
  return drain.segment().map().header().route_slots * row + kEndBytes;
}

}  // namespace moetrace
