// The producer's side of a segment.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "shm/errors.hpp"
#include "shm/file_lock.hpp"
#include "shm/segment_map.hpp"
#include "shm/segment_names.hpp"
#include "shm/segment_sizes.hpp"

namespace moetrace {

// Creates both files and holds the producer's lock. Their names stay until a collector unlinks
// them.
//
// Destruction releases the lock. Where a GPU claims the slots, it keeps the mappings, because
// captured CUDA graphs hold their addresses. A CPU producer's mappings are unmapped: they would
// keep the tmpfs pages of a closed ring for as long as the engine runs.
class ProducerSegment {
 public:
  ProducerSegment(ProducerSegment&&) = default;
  ProducerSegment& operator=(ProducerSegment&&) = delete;
  ~ProducerSegment();

  // A step that must succeed before a collector can find the segment. The SegmentMap object moves
  // afterwards; the addresses in it stay valid.
  using Prepare = std::function<std::optional<Error>(const SegmentMap&)>;

  // `header` describes the model and the process. create() fills in sizes, offsets, ids and clocks.
  static Result<ProducerSegment> create(const std::string& directory, const std::string& session,
                                        moetrace_ring_header header, const SegmentSizes& sizes,
                                        const Prepare& prepare = nullptr);

  const SegmentMap& map() const { return map_; }
  const SegmentName& name() const { return name_; }
  // Gives up the lock: from here on the collector takes the producer for dead.
  void release() { lock_.release(); }
  // Call in a forked child. Closes its copy of the lock's descriptor. Leaves the mappings alone:
  // the child has none (MADV_DONTFORK) and may have mapped something else at their addresses.
  void release_in_child();

 private:
  ProducerSegment() = default;

  SegmentMap map_;
  SegmentName name_;
  FileLock lock_;
  bool in_child_ = false;
};

}  // namespace moetrace
