// A file that appears under its name only when it is complete.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/unique_fd.hpp"
#include "daemon/cli/outcome.hpp"

namespace moetrace::cli {

class NewFile {
 public:
  // Writes to a temporary file beside `path`. "-" is standard output. A name that is taken is an
  // error, unless `force` is given and the name is a file's.
  static boost::system::result<std::unique_ptr<NewFile>, Failure> begin(const std::string& path,
                                                                        bool force);
  // Removes the temporary file.
  ~NewFile();
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  // Of what was written.
  std::uint64_t size() const { return size_; }
  std::optional<Failure> write(std::string_view text);
  // Brings all of it to the disk.
  std::optional<Failure> complete();
  // After complete(): gives the file its name.
  std::optional<Failure> publish();
  // After publish(): removes the file.
  void withdraw();

 private:
  NewFile(std::string path, bool force) : path_(std::move(path)), force_(force) {}
  std::optional<Failure> flush(std::string_view text);
  Failure failed(const char* doing, int error_number) const;

  std::string path_;
  bool force_;
  std::string temporary_;  // "": none
  UniqueFd own_;
  int fd_ = -1;
  std::string buffer_;
  std::uint64_t size_ = 0;
};

// From then on, a signal that ends the process first removes the temporary files, and one line says
// so.
void remove_new_files_on_signals();

}  // namespace moetrace::cli
