// A file of a trace: taken for it alone, cut back to whole lines, appended to. A line is in it
// whole or, until the next write, not at all.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/collector/resume.hpp"
#include "shm/file_lock.hpp"
#include "shm/errors.hpp"

namespace moetrace {

// Holds a lock on the file from before its first byte until it is destroyed, so that two traces, of
// one collector or of several, never share a file.
class TraceFile {
  using Clock = std::chrono::steady_clock;

 public:
  struct Name {
    std::string path;
    bool may_be_link = false;  // the user gave this very name
  };

  // Makes a file, or takes one that has no whole line but `meta`. kInUse if the name belongs to
  // anything else.
  static Result<TraceFile> take_new(const Name& name, std::string_view meta);
  // The file's opening if it belongs to the trace, else nothing. Changes nothing.
  static Result<std::optional<Opening>> look(const Name& name, const std::string& trace_id);
  // Goes on in a file of the trace. kInUse if another collector does; kBadFile if its lines
  // contradict themselves, and then nothing was changed.
  static Result<TraceFile> go_on(const Name& name, const std::string& trace_id);

  const std::string& path() const { return path_; }
  // Where the file's lines end. Nothing in a new file.
  const std::optional<TracePosition>& position() const { return position_; }

  // Appends as much as the file system takes now. False: it took only a part, or nothing, and
  // error() says why; call again with the same text, and it goes on where it stopped.
  bool append(std::string_view text);
  // False: what was written may not be on the disk, and error() says why; call again, and what was
  // written since the last success is written again, at growing intervals.
  bool sync();
  // False after a failure, until it is time to try again.
  bool sync_is_due() const { return !sync_failed_ || Clock::now() >= next_sync_; }
  const std::string& error() const { return error_; }

  enum class State {
    kWhole,
    kRemoved,  // it has lost its last name
    kChanged,  // another program has cut it or has written to it
  };
  // What has become of it. A file that was renamed is whole.
  State state() const;
  // Its name is there, and means this file.
  bool has_its_name() const;
  // Bytes that were appended and are in it, as long as it is whole.
  std::uint64_t size() const { return size_; }
  // Makes a file that another program has emptied a new one. False if it is not empty.
  bool begin_anew();

 private:
  enum class Lock { kOurs, kTaken, kNone };  // none: the file system has no locks
  Lock lock();
  bool write_again();
  bool fails(const std::string& what, int error_number, const char* what_to_try);

  UniqueFd fd_;  // holds the lock
  std::string path_;
  std::optional<TracePosition> position_;
  std::uint64_t size_ = 0;
  std::uint64_t synced_ = 0;  // the first bytes of the file that a sync has covered
  std::size_t written_ = 0;   // of the text under way
  std::string error_;
  bool sync_failed_ = false;
  Clock::time_point next_sync_;
  std::chrono::milliseconds sync_interval_{0};
};

}  // namespace moetrace
