// A file that only grows: locked for one trace, appended to, synced. TraceFile has one or two.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "common/unique_fd.hpp"
#include "shm/errors.hpp"

namespace moetrace {

// Holds a lock on the file from before its first byte until destruction, so that two traces never
// share a file, in one collector or in several.
class AppendFile {
  using Clock = std::chrono::steady_clock;

 public:
  struct Name {
    std::string path;
    // The user gave this very name.
    bool may_be_link = false;
  };

  // Makes a file, or empties one whose content may go, as `may_go` says of its descriptor. kInUse
  // if the name belongs to any other file.
  static Result<AppendFile> take_new(const Name& name,
                                     const std::function<Result<bool>(int fd)>& may_go);
  // Opens a file for reading. An invalid descriptor if no file of ours has the name.
  static Result<UniqueFd> look(const Name& name);
  // Opens and locks an existing file. kInUse if another collector writes it.
  static Result<AppendFile> open(const Name& name);

  // After take_new(): removes the file if that made it.
  void discard();

  const std::string& path() const { return path_; }
  int descriptor() const { return fd_.get(); }
  // After open(): cuts off what comes after `bytes`.
  std::optional<Error> cut_to(std::uint64_t bytes);

  // Appends as much as the file system takes now. False: a part or all of it is missing, and
  // error() says why; call it again with the same text to append the rest.
  bool append(std::string_view text);
  // False: the bytes since the last success may not be on the disk, and error() says why; call it
  // again to write them again, at growing intervals.
  bool sync();
  // False after a failure, until the next try is due.
  bool sync_is_due() const { return !sync_failed_ || Clock::now() >= next_sync_; }
  const std::string& error() const { return error_; }

  enum class State {
    kWhole,
    // It has lost its last name.
    kRemoved,
    // Another program has cut it or has written to it.
    kChanged,
  };
  // A renamed file is whole.
  State state() const;
  // Its name still leads to this file.
  bool has_its_name() const;
  // Bytes up to the end of the last append. The length of the file, as long as it is whole.
  std::uint64_t size() const { return size_; }
  // Since it was made; 0 if the file system does not say.
  std::chrono::seconds age() const;
  // Another program has emptied it.
  bool is_emptied() const;
  // Starts anew in a file that is_emptied().
  void begin_anew() { size_ = synced_ = written_ = 0; }

 private:
  // kNone: the file system has no locks.
  enum class Lock { kOurs, kTaken, kNone };
  Lock lock();
  bool write_again();
  bool fails(const std::string& what, int error_number, const char* what_to_try);

  // Holds the lock.
  UniqueFd fd_;
  std::string path_;
  bool made_ = false;
  std::uint64_t size_ = 0;
  // How many bytes, from the file's beginning, are on the disk.
  std::uint64_t synced_ = 0;
  // How many bytes of the present append are written.
  std::size_t written_ = 0;
  std::string error_;
  bool sync_failed_ = false;
  Clock::time_point next_sync_;
  std::chrono::milliseconds sync_interval_{0};
};

}  // namespace moetrace
