#include "producer/peers/file_records.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

namespace moetrace::peers {
namespace {

void read_file(const std::string& path, Checker& checker) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> bytes(1 << 20);
  const std::uint64_t mark = Record::kMark;
  std::size_t kept = 0;
  while (file.read(bytes.data() + kept, static_cast<std::streamsize>(bytes.size() - kept)),
         file.gcount() > 0) {
    const char* at = bytes.data();
    const char* const end = bytes.data() + kept + file.gcount();
    while (end - at >= static_cast<std::ptrdiff_t>(sizeof(Record))) {
      Record record;
      std::memcpy(&record, at, sizeof record);
      if (record.word == mark && record.is_whole()) {
        // LTTng's padding has what was there a lap before.
        if (record.number >= checker.next) checker.add(record);
        at += sizeof record;
      } else {
        ++at;
      }
    }
    kept = static_cast<std::size_t>(end - at);
    std::memmove(bytes.data(), at, kept);
  }
}

}  // namespace

void read_files(const std::string& folder, Checker& checker) {
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  for (const std::string& path : paths) read_file(path, checker);
}

}  // namespace moetrace::peers
