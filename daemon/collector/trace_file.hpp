// A file of one trace: locked for it, cut back to whole lines, appended to. Only the last line may
// be incomplete, until the next write.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/collector/resume.hpp"
#include "shm/errors.hpp"
#include "shm/file_lock.hpp"

namespace moetrace {

// Holds a lock on the file from before its first byte until destruction, so that two traces never
// share a file, in one collector or in several.
class TraceFile {
  using Clock = std::chrono::steady_clock;

 public:
  struct Name {
    std::string path;
    // The user gave this very name.
    bool may_be_link = false;
  };

  // Makes a file, or takes one that is empty or holds only `meta`. kInUse if the name belongs to
  // any other file.
  static Result<TraceFile> take_new(const Name& name, std::string_view meta);
  // The file's opening if the file belongs to the trace, otherwise nothing. Changes nothing.
  static Result<std::optional<Opening>> look(const Name& name, const std::string& trace_id);
  // Continues a file of the trace. kInUse if another collector writes it. kBadFile if its lines
  // contradict each other; then the file is unchanged.
  static Result<TraceFile> go_on(const Name& name, const std::string& trace_id);

  const std::string& path() const { return path_; }
  // Where the file's lines end. Nothing for a new file.
  const std::optional<TracePosition>& position() const { return position_; }

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
  // Starts anew in a file that another program has emptied. False if it is not empty.
  bool begin_anew();

 private:
  // kNone: the file system has no locks.
  enum class Lock { kOurs, kTaken, kNone };
  Lock lock();
  bool write_again();
  bool fails(const std::string& what, int error_number, const char* what_to_try);

  // Holds the lock.
  UniqueFd fd_;
  std::string path_;
  std::optional<TracePosition> position_;
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
