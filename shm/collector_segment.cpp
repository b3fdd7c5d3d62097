#include "shm/collector_segment.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <boost/uuid/uuid.hpp>
#include <boost/uuid/uuid_io.hpp>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>
#include <vector>

#include "shm/header_check.hpp"
#include "shm/mapped_file.hpp"
#include "shm/system_error.hpp"

namespace moetrace {
namespace {

namespace ipc = boost::interprocess;

// Opens a file that another process has made; never through a link, and without waiting for a
// writer if it is a FIFO.
Result<UniqueFd> open_file(const std::string& path, int access) {
  UniqueFd fd(::open(path.c_str(), access | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (fd.valid()) return fd;
  const int failed = errno;
  if (failed == ENOENT) {
    return Error{ErrorCode::kNotFound,
                 path + ": segment not found; it may have been drained already"};
  }
  return system_error(path, "can't open it", failed, RingFile::kOther);
}

}  // namespace

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
    // If its last collector unlinks the files right now, open_file() below fails with kNotFound.
    segment.lock_ = std::move(*lock);
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
  if (ring_bytes < sizeof(moetrace_ring_header)) return bad(ring_path, "shorter than a header");
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
                   ", this program supports version " + std::to_string(MOETRACE_ABI_MAJOR) +
                   "; use the collector of the producer's version",
               ErrorCode::kWrongVersion);
  }
  if (const auto wrong = check_header(header, ring_bytes)) return bad(ring_path, *wrong);
  boost::uuids::uuid id;
  std::memcpy(id.data, header.trace_id, sizeof id.data);
  // A wrong id would send this segment's lines into another trace.
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
  if (header.abi_minor < 3) segment.map_.header_.engine_id[0] = '\0';
  std::vector<moetrace_layer_entry> layers;
  if (const std::uint64_t offset = layer_table_offset(header); offset != 0) {
    layers.resize(header.num_layers);
    std::memcpy(layers.data(), static_cast<const std::byte*>(segment.map_.ring_address()) + offset,
                layers.size() * sizeof layers[0]);
    if (const auto wrong = check_layer_table(header, layers)) return bad(ring_path, *wrong);
    for (moetrace_layer_entry& entry : layers) terminate_strings(entry);
  }
  segment.map_.layers_ = LayerTable(header, layers);
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
  // .ring first: remove_abandoned() knows a .ctl alone as a leftover, but a .ring alone looks like
  // a segment.
  const std::string ring_path = directory_ + "/" + name_.ring_file();
  if (::unlink(ring_path.c_str()) != 0 && errno != ENOENT) {
    return ring_path + ": drained, but can't be removed: " + std::strerror(errno) +
           "; its owner may remove it and the .ctl file beside it";
  }
  ::unlink((directory_ + "/" + name_.ctl_file()).c_str());
  return {};
}

}  // namespace moetrace
