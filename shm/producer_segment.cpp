#include "shm/producer_segment.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <boost/uuid/random_generator.hpp>
#include <boost/uuid/uuid_io.hpp>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <ctime>
#include <exception>
#include <mutex>
#include <utility>
#include <vector>

#include "common/names.hpp"
#include "shm/control_words.hpp"
#include "shm/header_check.hpp"
#include "shm/mapped_file.hpp"
#include "shm/ring_access.hpp"
#include "shm/system_error.hpp"

namespace moetrace {
namespace {

namespace ipc = boost::interprocess;

std::int64_t clock_ns(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

std::string no_room(std::uint64_t bytes) {
  return "no room for its " + std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB";
}

// Makes a file of `bytes` bytes and allocates all of them: a full tmpfs is an error here and never
// a SIGBUS later.
Result<UniqueFd> make_file(const std::string& path, std::uint64_t bytes, const RingAccess& access,
                           mode_t mode) {
  // An allocation beyond this limit raises SIGXFSZ, which ends the engine by default.
  rlimit limit{};
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && bytes > limit.rlim_cur) {
    return system_error(path, no_room(bytes), EFBIG, RingFile::kOwn);
  }
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return system_error(path, "can't create it", errno, RingFile::kOwn);
  int failed = EINTR;
  // A signal interrupts the allocation on tmpfs, and the next try starts over. The limit keeps an
  // engine with a fast timer from looping for ever.
  for (int tries = 0; tries < 16 && failed == EINTR; ++tries) {
    failed = ::posix_fallocate(fd.get(), 0, static_cast<off_t>(bytes));
  }
  if (failed != 0) {
    return system_error(path, no_room(bytes), failed, RingFile::kOwn);
  }
  grant_access(fd, access, mode);
  return fd;
}

std::string building_name(const std::string& file) {
  return std::string(kBuildingPrefix) + file;
}

// A new trace id, and its .ctl under the hidden name, with the producer's lock held.
struct LockedCtl {
  boost::uuids::uuid id;
  SegmentName name;
  std::string hidden_path;
  UniqueFd fd;
  FileLock lock;
};

// remove_abandoned() may run between make_file() and acquire(), and take the file for a dead
// producer's. Then start over under a new trace id, because that process may unlink the old name at
// any later time. Once we hold the lock and the file still has its name, no process can unlink it:
// remove_abandoned() unlinks only while it holds the lock itself.
Result<LockedCtl> make_locked_ctl(const std::string& directory, const std::string& session,
                                  const RingAccess& access) {
  std::string path;
  for (int tries = 0; tries < 16; ++tries) {
    LockedCtl ctl;
    try {
      ctl.id = boost::uuids::random_generator()();
    } catch (const std::exception& error) {
      return Error{ErrorCode::kSystem,
                   std::string("trace id: ") + error.what() + "; make /dev/urandom readable"};
    }
    ctl.name = {session, boost::uuids::to_string(ctl.id)};
    path = directory + "/" + building_name(ctl.name.ctl_file());
    auto fd = make_file(path, sizeof(moetrace_ctl), access, access.ctl_mode);
    if (!fd) {
      ::unlink(path.c_str());
      return fd.error();
    }
    auto lock = FileLock::acquire(path, MOETRACE_LOCK_PRODUCER);
    if (lock && lock->linked()) {
      ctl.hidden_path = path;
      ctl.fd = std::move(*fd);
      ctl.lock = std::move(*lock);
      return ctl;
    }
    ::unlink(path.c_str());
    if (!lock && lock.error().code != ErrorCode::kInUse &&
        lock.error().code != ErrorCode::kNotFound)
      return lock.error();
  }
  return Error{ErrorCode::kInUse,
               path + ": removed by other processes in each of 16 tries; try again"};
}

}  // namespace

Result<ProducerSegment> ProducerSegment::build(const std::string& directory,
                                               const std::string& session,
                                               moetrace_ring_header header,
                                               const SegmentSizes& sizes,
                                               std::span<const moetrace_layer_entry> layers) {
  if (!is_session_name(session)) {
    return Error{
        ErrorCode::kBadArgument,
        "session '" + session + "': not a session name; use 1 to 64 letters, digits, '-' and '_'"};
  }
  std::memcpy(header.magic, MOETRACE_RING_MAGIC, sizeof header.magic);
  header.abi_major = MOETRACE_ABI_MAJOR;
  header.abi_minor = MOETRACE_ABI_MINOR;
  header.byte_order = MOETRACE_BYTE_ORDER;
  header.producer_pid = static_cast<std::uint32_t>(::getpid());
  header.created_realtime_ns = clock_ns(CLOCK_REALTIME);
  header.created_monotonic_ns = clock_ns(CLOCK_MONOTONIC);
  lay_out_segment(header, sizes);
  auto wrong = check_header(header, header.ring_bytes);
  if (!wrong) wrong = check_layer_table(header, layers);
  if (wrong) {
    return Error{ErrorCode::kBadArgument,
                 "segment: " + *wrong + "; correct the options of the producer"};
  }

  const RingAccess access = ring_access(directory);
  auto locked = make_locked_ctl(directory, session, access);
  if (!locked) return locked.error();
  std::memcpy(header.trace_id, locked->id.data, sizeof header.trace_id);
  ProducerSegment segment;
  segment.name_ = locked->name;
  segment.lock_ = std::move(locked->lock);
  segment.directory_ = directory;
  const std::string& hidden_ctl = locked->hidden_path;
  const std::string hidden_ring = directory + "/" + building_name(segment.name_.ring_file());
  segment.unpublished_.files = {hidden_ring, hidden_ctl};
  const auto ring_fd = make_file(hidden_ring, header.ring_bytes, access, access.ring_mode);
  if (!ring_fd) return ring_fd.error();

  auto ctl = map_file(locked->fd, hidden_ctl, ipc::read_write, RingFile::kOwn);
  if (!ctl) return ctl.error();
  auto ring = map_file(*ring_fd, hidden_ring, ipc::read_write, RingFile::kOwn);
  if (!ring) return ring.error();
  segment.map_.ctl_ = std::move(*ctl);
  segment.map_.ring_ = std::move(*ring);
  segment.map_.header_ = header;
  // Populates every page now. Otherwise the first lap takes a page fault every 64 slots, which
  // costs more than writing them. Kernels before 5.14 lack this call and take the page faults.
  ::madvise(segment.map_.ring_.get_address(), segment.map_.ring_.get_size(), MADV_POPULATE_WRITE);

  moetrace_ctl* shared_ctl = segment.map_.ctl();
  std::memcpy(shared_ctl->magic, MOETRACE_CTL_MAGIC, sizeof shared_ctl->magic);
  shared_ctl->abi_major = header.abi_major;
  shared_ctl->abi_minor = header.abi_minor;
  shared_ctl->byte_order = header.byte_order;
  std::memcpy(shared_ctl->trace_id, header.trace_id, sizeof header.trace_id);
  write_control(segment.map_, {true, header.sample_every, header.layers_logged});
  segment.map_.layers_ = LayerTable(header, layers);
  auto* const ring_bytes = static_cast<std::byte*>(segment.map_.ring_.get_address());
  if (!layers.empty())
    std::memcpy(ring_bytes + header.layer_table_offset, layers.data(), layers.size_bytes());
  std::memcpy(ring_bytes, &header, sizeof header);
  return segment;
}

std::optional<Error> ProducerSegment::publish() {
  const auto rename = [&](std::string& file, const std::string& name) -> std::optional<Error> {
    std::string path = directory_ + "/" + name;
    if (::rename(file.c_str(), path.c_str()) != 0)
      return system_error(path, "can't rename to it", errno, RingFile::kOwn);
    file = std::move(path);
    return std::nullopt;
  };
  // A collector finds a segment by its .ring, so rename .ring last.
  if (auto failed = rename(unpublished_.files.back(), name_.ctl_file())) return failed;
  if (auto failed = rename(unpublished_.files.front(), name_.ring_file())) return failed;
  unpublished_.files.clear();
  return std::nullopt;
}

Result<ProducerSegment> ProducerSegment::create(const std::string& directory,
                                                const std::string& session,
                                                moetrace_ring_header header,
                                                const SegmentSizes& sizes,
                                                std::span<const moetrace_layer_entry> layers) {
  auto segment = build(directory, session, header, sizes, layers);
  if (!segment) return segment;
  if (auto failed = segment->publish()) return *failed;
  return segment;
}

ProducerSegment::Unpublished::~Unpublished() {
  for (const std::string& file : files) ::unlink(file.c_str());
}

ProducerSegment::~ProducerSegment() {
  if (!keep_mapped_) return;
  // Never unmapped. The list keeps them reachable for a leak checker.
  static std::mutex mutex;
  // NOLINTNEXTLINE(bugprone-unhandled-exception-at-new): without memory for it nothing goes on
  static auto* kept = new std::vector<SegmentMap>;
  const std::lock_guard guard(mutex);
  kept->push_back(std::move(map_));
}

void ProducerSegment::release_in_child() {
  keep_mapped();
  lock_.release();
}

}  // namespace moetrace
