// A segment: the two files of one producing process, created by it and opened by its collector.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <boost/interprocess/mapped_region.hpp>
#include <cstdint>
#include <functional>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/names.hpp"
#include "shm/abi.h"
#include "shm/cut_guard.hpp"
#include "shm/file_lock.hpp"
#include "shm/errors.hpp"
#include "shm/ring.hpp"
#include "shm/route_layout.hpp"
#include "shm/shared_lines.hpp"

namespace moetrace {

// $MOETRACE_DIR, else /run/moetrace where it can be written, else /dev/shm.
std::string default_ring_directory();

// What a file's name begins with while its segment is being built: hidden, so that nobody takes it
// for one.
inline constexpr std::string_view kBuildingPrefix = ".building.";

struct SegmentName {
  std::string session;
  std::string trace_id;           // the UUID as text
  std::string ring_file() const;  // moetrace.v1.<session>.<trace id>.ring
  std::string ctl_file() const;
};

// Every segment of a session that has got its final name, in the order of their names. A directory
// that can't be read is an error; a file that only looks similar is left out.
Result<std::vector<SegmentName>> list_segments(const std::string& directory,
                                               std::string_view session);

// Unlinks what a producer left behind that died while it was building a segment. Safe at any time:
// a living one holds a lock. The files' names; with `only_look` those that would be unlinked.
std::vector<std::string> remove_abandoned(const std::string& directory, std::string_view session,
                                          bool only_look = false);

// The sessions that have any file in the directory, in alphabetical order.
std::vector<std::string> sessions_in(const std::string& directory);

// Sizes that a producer chooses.
struct SegmentSizes {
  std::uint64_t route_slots = 0;  // powers of two
  std::uint64_t event_slots = 0;
  std::uint32_t request_slots = 0;
};

// A ring of so many route slots, a power of two, and an event ring to go with it.
SegmentSizes sizes_of_slots(std::uint64_t route_slots);
// The smallest of these, of 64 slots or more, that holds `ring_mb` MiB of records of this top-k;
// the largest, if none is large enough.
SegmentSizes sizes_for(double ring_mb, std::uint32_t top_k);
// What a segment's two files take for this model.
std::uint64_t segment_bytes(const moetrace_ring_header& model, const SegmentSizes& sizes);

// The mapped files with the addresses of their parts. Both sides use it; the collector's .ring is
// mapped read-only.
class SegmentMap {
 public:
  const moetrace_ring_header& header() const { return header_; }
  moetrace_state* state() const { return at<moetrace_state>(header_.state_offset); }
  moetrace_request_entry* requests() const {
    return at<moetrace_request_entry>(header_.request_offset);
  }
  std::byte* events() const { return at<std::byte>(header_.event_offset); }
  std::byte* routes() const { return at<std::byte>(header_.route_offset); }
  std::uint64_t* counts() const { return at<std::uint64_t>(header_.counts_offset); }
  moetrace_ctl* ctl() const { return static_cast<moetrace_ctl*>(ctl_.get_address()); }
  void* ring_address() const { return ring_.get_address(); }
  std::size_t ring_bytes() const { return ring_.get_size(); }

  RouteLayout route_layout() const { return RouteLayout::of_top_k(header_.top_k); }
  MappedRing event_ring() const {
    return {events(), 64, header_.event_slots, &ctl()->event_consumed};
  }
  MappedRing route_ring() const {
    return {routes(), header_.route_stride, header_.route_slots, &ctl()->route_consumed};
  }
  AlternatingLines<MappedLines> snapshots() const {
    return AlternatingLines<MappedLines>(MappedLines(state()->snapshots));
  }
  AlternatingLines<MappedLines> ledger() const {
    return AlternatingLines<MappedLines>(MappedLines(ctl()->ledger));
  }
  // Word 0 is steps_done; the table follows in write_counts/read_counts.
  VersionedWords<MappedWords> control() const {
    return VersionedWords<MappedWords>(MappedWords(
        &ctl()->control.version, reinterpret_cast<std::uint64_t*>(&ctl()->control) + 1));
  }

 private:
  friend class ProducerSegment;
  friend class CollectorSegment;
  template <class T>
  T* at(std::uint64_t offset) const {
    return reinterpret_cast<T*>(static_cast<std::byte*>(ring_.get_address()) + offset);
  }

  boost::interprocess::mapped_region ring_;
  boost::interprocess::mapped_region ctl_;
  moetrace_ring_header
      header_{};  // a private copy, checked once: the shared one may change under our hands
};

// End of the valid routes from `position` on, `limit` of them at most. What a CPU commits slot by
// slot, a GPU publishes by its position; it must carry the right numbers all the same.
std::uint64_t valid_routes_end(const SegmentMap& map, const RingReader<MappedRing>& routes,
                               std::uint64_t position, std::uint64_t limit);

// The counts [layer][expert] with the number of steps that they are exact as of.
class CountsWords {
 public:
  explicit CountsWords(const SegmentMap& map)
      : header_(&map.state()->counts), table_(map.counts()) {}
  SharedWord version() const { return SharedWord(&header_->version); }
  SharedWord cell(std::size_t word) const {
    return SharedWord(word == 0 ? &header_->steps_done : table_ + (word - 1));
  }

 private:
  moetrace_counts_header* header_;
  std::uint64_t* table_;
};

// What control words say.
struct ControlWords {
  bool enabled = true;
  std::uint32_t sample_every = 1;
  moetrace_layer_mask layers{};

  friend bool operator==(const ControlWords& a, const ControlWords& b) {
    return a.enabled == b.enabled && a.sample_every == b.sample_every &&
           std::equal(std::begin(a.layers.words), std::end(a.layers.words),
                      std::begin(b.layers.words));
  }
};
void write_control(const SegmentMap& map, const ControlWords& words);
// Nothing if somebody is writing, or died writing.
std::optional<std::pair<std::uint64_t, ControlWords>> read_control(const SegmentMap& map);

// Nanoseconds of the engine's threads: in announcements, and in calls of the hook.
struct Cost {
  std::uint64_t announce_ns = 0;
  std::uint64_t hook_ns = 0;
};
// What tracing has cost the producer so far. Nothing if it is older than ABI 1.2.
std::optional<Cost> read_cost(const SegmentMap& map);

// The producer's side. The names stay until the collector, or nobody, unlinks them. Destruction
// releases the producer's lock. It keeps the mappings where a GPU claims the slots, because
// captured CUDA graphs hold their addresses; a CPU producer's are unmapped, or a closed ring would
// keep its tmpfs pages for as long as the engine runs.
class ProducerSegment {
 public:
  ProducerSegment(ProducerSegment&&) = default;
  ProducerSegment& operator=(ProducerSegment&&) = delete;
  ~ProducerSegment();

  // What else must succeed before a collector may find the segment. Addresses in the map stay as
  // they are; the map itself moves.
  using Prepare = std::function<std::optional<Error>(const SegmentMap&)>;

  // `header` gives everything that describes the model and the process; sizes, offsets, ids and
  // clocks are filled in here.
  static Result<ProducerSegment> create(const std::string& directory, const std::string& session,
                                        moetrace_ring_header header, const SegmentSizes& sizes,
                                        const Prepare& prepare = nullptr);

  const SegmentMap& map() const { return map_; }
  const SegmentName& name() const { return name_; }
  // Gives the lock up: the collector takes the segment for ended.
  void release() { lock_.release(); }
  // For a forked child: gives its copy of the lock's descriptor back, and leaves alone the
  // addresses of the mappings, which the child does not have (MADV_DONTFORK) and may have given to
  // something else.
  void release_in_child();

 private:
  ProducerSegment() = default;

  SegmentMap map_;
  SegmentName name_;
  FileLock lock_;
  bool in_child_ = false;
};

// The collector's side.
class CollectorSegment {
 public:
  enum class Access { kCollect, kObserve };  // observe: no lock, for status and control

  static Result<CollectorSegment> open(const std::string& directory, const SegmentName& name,
                                       Access access);

  const SegmentMap& map() const { return map_; }
  const SegmentName& name() const { return name_; }
  bool producer_alive() const;
  // Whether any collector serves it, this one included.
  bool collector_alive() const;
  // False if somebody has cut a file since it was mapped. What was read since it was last true may
  // be zeros (CutGuard).
  bool intact() const;
  // A lock on the control words, for as long as it lives.
  Result<FileLock> lock_control() const;
  // Removes both names. The mappings stay. Empty, or one line that says why the names stay, too.
  std::string unlink() const;

 private:
  std::string directory_;
  SegmentMap map_;
  CutGuard ring_guard_;  // both are given up before the map is
  CutGuard ctl_guard_;
  SegmentName name_;
  FileLock lock_;
  UniqueFd ring_fd_;
  UniqueFd ctl_fd_;  // asks about locks; never holds one
};

}  // namespace moetrace
