#include "shm/segment.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/uuid/random_generator.hpp>
#include <boost/uuid/uuid_io.hpp>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <exception>
#include <mutex>

#include "shm/header_check.hpp"
#include "shm/ring_access.hpp"
#include "shm/system_error.hpp"

namespace moetrace {
namespace {

namespace ipc = boost::interprocess;

constexpr std::uint64_t kPage = 4096;

std::int64_t clock_ns(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

std::uint64_t round_up(std::uint64_t bytes) {
  return (bytes + kPage - 1) / kPage * kPage;
}

// Sizes and offsets in the order of ABI.md: header, state, requests, events, routes, counts; each
// on its own page.
void lay_out(moetrace_ring_header& h, const SegmentSizes& sizes) {
  h.header_bytes = kPage;
  h.route_stride = RouteLayout::of_top_k(h.top_k).stride();
  h.event_slots = sizes.event_slots;
  h.route_slots = sizes.route_slots;
  h.request_slots = sizes.request_slots;
  h.state_offset = kPage;
  h.request_offset = h.state_offset + kPage;
  h.event_offset = h.request_offset +
                   round_up(std::uint64_t{sizes.request_slots} * sizeof(moetrace_request_entry));
  h.route_offset = h.event_offset + round_up(sizes.event_slots * 64);
  h.counts_offset = h.route_offset + round_up(sizes.route_slots * h.route_stride);
  h.ring_bytes = h.counts_offset + round_up(std::uint64_t{h.num_layers} * h.num_experts * 8);
  h.ctl_bytes = sizeof(moetrace_ctl);
}

}  // namespace

std::uint64_t segment_bytes(const moetrace_ring_header& model, const SegmentSizes& sizes) {
  moetrace_ring_header header = model;
  lay_out(header, sizes);
  return header.ring_bytes + header.ctl_bytes;
}

namespace {

std::string no_room(std::uint64_t bytes) {
  return "no room for its " + std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB";
}

// A file of exactly `bytes` bytes that are really there, so that a full tmpfs is an error now and
// never a SIGBUS later.
Result<UniqueFd> make_file(const std::string& path, std::uint64_t bytes, const RingAccess& access,
                           mode_t mode) {
  // Beyond this limit the allocation raises SIGXFSZ, which would end the engine.
  rlimit limit{};
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && bytes > limit.rlim_cur) {
    return system_error(path, no_room(bytes), EFBIG, RingFile::kOwn);
  }
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) return system_error(path, "can't create it", errno, RingFile::kOwn);
  int failed = EINTR;
  // A signal interrupts the allocation on tmpfs, which then starts over; an engine with a fast
  // timer must not starve here.
  for (int tries = 0; tries < 16 && failed == EINTR; ++tries) {
    failed = ::posix_fallocate(fd.get(), 0, static_cast<off_t>(bytes));
  }
  if (failed != 0) {
    return system_error(path, no_room(bytes), failed, RingFile::kOwn);
  }
  grant_access(fd, access, mode);
  return fd;
}

// A regular file of somebody else's, opened as it is and never through a link.
Result<UniqueFd> open_file(const std::string& path, int access) {
  UniqueFd fd(::open(path.c_str(), access | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (fd.valid()) return fd;
  const int failed = errno;
  if (failed == ENOENT) {
    return Error{ErrorCode::kNotFound,
                 path + ": there is no such segment; it may have been drained already"};
  }
  return system_error(path, "can't open it", failed, RingFile::kOther);
}

std::uint64_t file_bytes(const UniqueFd& fd) {
  struct stat status {};
  return ::fstat(fd.get(), &status) == 0 && S_ISREG(status.st_mode)
             ? static_cast<std::uint64_t>(status.st_size)
             : 0;
}

// An open file, as Boost.Interprocess wants it.
struct MappableFile {
  int fd;
  ipc::mapping_handle_t get_mapping_handle() const { return {fd, false}; }
};

// Maps the very file that `fd` has open: its name may mean another one by now.
Result<ipc::mapped_region> map_file(const UniqueFd& fd, const std::string& path, ipc::mode_t mode,
                                    RingFile whose) {
  try {
    ipc::mapped_region region(MappableFile{fd.get()}, mode);
    // A forked child must not find the ring: it would write into its parent's records.
    ::madvise(region.get_address(), region.get_size(), MADV_DONTFORK);
    return region;
  } catch (const ipc::interprocess_exception& error) {
    return system_error(path, "can't map it", error.get_native_error(), whose);
  }
}

// A new trace id, and its .ctl under the hidden name with the producer's lock on it.
struct LockedCtl {
  boost::uuids::uuid id;
  SegmentName name;
  std::string hidden_path;
  UniqueFd fd;
  FileLock lock;
};

// remove_abandoned() may come between making the file and locking it, and take it for a dead
// producer's. Then all begins anew, under a new name: whoever was about to unlink the old one may
// do so at any later time. With the lock in our hand, on a file that still has its name, nobody is:
// they unlink while they hold it.
Result<LockedCtl> make_locked_ctl(const std::string& directory, const std::string& session,
                                  const RingAccess& access) {
  std::string path;
  for (int tries = 0; tries < 16; ++tries) {
    LockedCtl ctl;
    try {
      ctl.id = boost::uuids::random_generator()();
    } catch (const std::exception& error) {
      return Error{ErrorCode::kSystem, std::string("trace id: ") + error.what() +
                                           "; the system gives no random numbers"};
    }
    ctl.name = {session, boost::uuids::to_string(ctl.id)};
    path = directory + "/" + std::string(kBuildingPrefix) + ctl.name.ctl_file();
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
  return Error{ErrorCode::kInUse, path + ": removed again and again while it was built; try again"};
}

// Unlinks half-built files unless told that all went well.
struct Cleanup {
  std::vector<std::string> files;
  ~Cleanup() {
    for (const std::string& file : files) ::unlink(file.c_str());
  }
};

}  // namespace

Result<ProducerSegment> ProducerSegment::create(const std::string& directory,
                                                const std::string& session,
                                                moetrace_ring_header header,
                                                const SegmentSizes& sizes, const Prepare& prepare) {
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
  lay_out(header, sizes);
  if (const auto wrong = check_header(header, header.ring_bytes)) {
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
  const std::string root = directory + "/";
  const std::string ctl_path = root + segment.name_.ctl_file();
  const std::string ring_path = root + segment.name_.ring_file();
  const std::string& hidden_ctl = locked->hidden_path;
  const std::string hidden_ring = root + std::string(kBuildingPrefix) + segment.name_.ring_file();

  Cleanup cleanup{{hidden_ring, hidden_ctl}};
  const auto ring_fd = make_file(hidden_ring, header.ring_bytes, access, access.ring_mode);
  if (!ring_fd) return ring_fd.error();

  auto ctl = map_file(locked->fd, hidden_ctl, ipc::read_write, RingFile::kOwn);
  if (!ctl) return ctl.error();
  auto ring = map_file(*ring_fd, hidden_ring, ipc::read_write, RingFile::kOwn);
  if (!ring) return ring.error();
  segment.map_.ctl_ = std::move(*ctl);
  segment.map_.ring_ = std::move(*ring);
  segment.map_.header_ = header;
  // Else the first lap takes a page fault every 64 slots, which costs more than writing them. A
  // kernel older than 5.14 can't, and has them.
  ::madvise(segment.map_.ring_.get_address(), segment.map_.ring_.get_size(), MADV_POPULATE_WRITE);

  moetrace_ctl* shared_ctl = segment.map_.ctl();
  std::memcpy(shared_ctl->magic, MOETRACE_CTL_MAGIC, sizeof shared_ctl->magic);
  shared_ctl->abi_major = header.abi_major;
  shared_ctl->abi_minor = header.abi_minor;
  shared_ctl->byte_order = header.byte_order;
  std::memcpy(shared_ctl->trace_id, header.trace_id, sizeof header.trace_id);
  write_control(segment.map_, {true, header.sample_every, header.layers_logged});
  std::memcpy(segment.map_.ring_.get_address(), &header, sizeof header);

  if (prepare) {
    if (auto failed = prepare(segment.map_)) return *failed;
  }

  // A collector finds a segment by its .ring, so that comes last.
  if (::rename(hidden_ctl.c_str(), ctl_path.c_str()) != 0)
    return system_error(ctl_path, "can't rename to it", errno, RingFile::kOwn);
  cleanup.files.back() = ctl_path;
  if (::rename(hidden_ring.c_str(), ring_path.c_str()) != 0) {
    return system_error(ring_path, "can't rename to it", errno, RingFile::kOwn);
  }
  cleanup.files.clear();
  return segment;
}

ProducerSegment::~ProducerSegment() {
  if (!in_child_ && map_.header_.claimer != MOETRACE_CLAIMER_GPU) return;
  // Never unmapped: kept where a leak checker finds them.
  static std::mutex mutex;
  static auto* kept = new std::vector<SegmentMap>;
  const std::lock_guard guard(mutex);
  kept->push_back(std::move(map_));
}

void ProducerSegment::release_in_child() {
  in_child_ = true;
  lock_.release();
}

Result<CollectorSegment> CollectorSegment::open(const std::string& directory,
                                                const SegmentName& name, Access access) {
  CollectorSegment segment;
  segment.directory_ = directory;
  segment.name_ = name;
  const std::string ring_path = directory + "/" + name.ring_file();
  const std::string ctl_path = directory + "/" + name.ctl_file();
  if (access == Access::kCollect) {
    auto lock = FileLock::acquire(ctl_path, MOETRACE_LOCK_COLLECTOR);
    if (!lock) return lock.error();
    segment.lock_ = std::move(
        *lock);  // if its last collector unlinks it just now, the names below are not found
  }
  auto ring_fd = open_file(ring_path, O_RDONLY);
  if (!ring_fd) return ring_fd.error();
  auto ctl_fd = open_file(ctl_path, O_RDWR);
  if (!ctl_fd) return ctl_fd.error();
  segment.ring_fd_ = std::move(*ring_fd);
  segment.ctl_fd_ = std::move(*ctl_fd);
  const auto bad = [&](const std::string& path, const std::string& why,
                       ErrorCode code = ErrorCode::kBadSegment) {
    return Error{code,
                 path + ": " + why + "; remove the segment's two files if no producer uses them"};
  };
  const std::uint64_t ring_bytes = file_bytes(segment.ring_fd_);
  if (ring_bytes < kPage) return bad(ring_path, "shorter than a header");
  auto ring = map_file(segment.ring_fd_, ring_path, ipc::read_only, RingFile::kOther);
  if (!ring) return ring.error();
  if (ring->get_size() < ring_bytes) return bad(ring_path, "changed its size while it was opened");
  segment.map_.ring_ = std::move(*ring);
  segment.ring_guard_ = CutGuard(segment.map_.ring_);

  moetrace_ring_header header;
  std::memcpy(&header, segment.map_.ring_.get_address(), sizeof header);
  if (std::memcmp(header.magic, MOETRACE_RING_MAGIC, sizeof header.magic) != 0)
    return bad(ring_path, "not a moetrace ring");
  if (header.abi_major != MOETRACE_ABI_MAJOR) {
    return bad(ring_path,
               "ABI version " + std::to_string(header.abi_major) +
                   ", this program speaks version " + std::to_string(MOETRACE_ABI_MAJOR) +
                   "; use the collector that belongs to the producer",
               ErrorCode::kWrongVersion);
  }
  if (const auto wrong = check_header(header, ring_bytes)) return bad(ring_path, *wrong);
  boost::uuids::uuid id;
  std::memcpy(id.data, header.trace_id, sizeof id.data);
  // Else one segment could have its lines written into another one's trace.
  if (boost::uuids::to_string(id) != name.trace_id)
    return bad(ring_path, "carries another trace id than its name");

  if (file_bytes(segment.ctl_fd_) != sizeof(moetrace_ctl))
    return bad(ctl_path, "has the wrong size");
  auto ctl = map_file(segment.ctl_fd_, ctl_path, ipc::read_write, RingFile::kOther);
  if (!ctl) return ctl.error();
  segment.map_.ctl_ = std::move(*ctl);
  segment.ctl_guard_ = CutGuard(segment.map_.ctl_);
  segment.map_.header_ = header;
  terminate_strings(segment.map_.header_);
  const moetrace_ctl* shared = segment.map_.ctl();
  if (std::memcmp(shared->magic, MOETRACE_CTL_MAGIC, sizeof shared->magic) != 0 ||
      shared->abi_major != MOETRACE_ABI_MAJOR ||
      std::memcmp(shared->trace_id, header.trace_id, 16) != 0) {
    return bad(ctl_path, "does not belong to its .ring");
  }
  return segment;
}

bool CollectorSegment::producer_alive() const {
  return FileLock::held_elsewhere(ctl_fd_.get(), MOETRACE_LOCK_PRODUCER);
}

bool CollectorSegment::collector_alive() const {
  return FileLock::held_elsewhere(ctl_fd_.get(), MOETRACE_LOCK_COLLECTOR);
}

bool CollectorSegment::intact() const {
  return !ring_guard_.hit() && !ctl_guard_.hit() &&
         file_bytes(ring_fd_) == map_.header().ring_bytes &&
         file_bytes(ctl_fd_) == sizeof(moetrace_ctl);
}

Result<FileLock> CollectorSegment::lock_control() const {
  return FileLock::acquire(directory_ + "/" + name_.ctl_file(), MOETRACE_LOCK_CONTROL);
}

std::string CollectorSegment::unlink() const {
  // .ring first: a .ctl alone is known to be a leftover, a .ring alone would look like a segment.
  const std::string ring_path = directory_ + "/" + name_.ring_file();
  if (::unlink(ring_path.c_str()) != 0 && errno != ENOENT) {
    return ring_path + ": drained, but can't be removed: " + std::strerror(errno) +
           "; its owner may remove it and the .ctl file beside it";
  }
  ::unlink((directory_ + "/" + name_.ctl_file()).c_str());
  return {};
}

std::uint64_t valid_routes_end(const SegmentMap& map, const RingReader<MappedRing>& routes,
                               std::uint64_t position, std::uint64_t limit) {
  if (map.header().claimer == MOETRACE_CLAIMER_GPU) {
    // acquire: synchronizes with the GPU's system-scope fence before its store of the position, so
    // every record below is whole. Anything may stand there if the producer is hostile.
    const std::uint64_t published =
        SharedWord(&map.state()->published.routes).load(std::memory_order_acquire);
    limit = published > position ? std::min(limit, published - position) : 0;
  }
  return routes.valid_end(position, limit);
}

namespace {
// The control words behind `version`, as they lie in moetrace_control.
constexpr std::size_t kControlWords = 5;
}  // namespace

void write_control(const SegmentMap& map, const ControlWords& words) {
  const std::uint64_t packed[kControlWords] = {
      std::uint64_t{words.enabled} | std::uint64_t{words.sample_every} << 32, words.layers.words[0],
      words.layers.words[1], words.layers.words[2], words.layers.words[3]};
  map.control().write(kControlWords, [&](std::size_t w) { return packed[w]; });
}

std::optional<Cost> read_cost(const SegmentMap& map) {
  if (map.header().abi_minor < 2) return std::nullopt;
  moetrace_host_counters* host = &map.state()->host;
  // relaxed: each is a running total of its own. Who has seen `closed` (acquire) sees the last
  // ones.
  return Cost{SharedWord(&host->announce_ns).load(std::memory_order_relaxed),
              SharedWord(&host->hook_ns).load(std::memory_order_relaxed)};
}

std::optional<std::pair<std::uint64_t, ControlWords>> read_control(const SegmentMap& map) {
  std::uint64_t packed[kControlWords] = {};
  const auto version =
      map.control().read(kControlWords, [&](std::size_t w, std::uint64_t v) { packed[w] = v; });
  if (!version) return std::nullopt;
  ControlWords words;
  words.enabled = static_cast<std::uint32_t>(packed[0]) != 0;
  words.sample_every = static_cast<std::uint32_t>(packed[0] >> 32);
  std::memcpy(words.layers.words, packed + 1, sizeof words.layers.words);
  return std::pair{*version, words};
}

}  // namespace moetrace
