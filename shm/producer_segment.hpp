// The producer's side of a segment.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "shm/errors.hpp"
#include "shm/file_lock.hpp"
#include "shm/segment_map.hpp"
#include "shm/segment_names.hpp"
#include "shm/segment_sizes.hpp"

namespace moetrace {

// Creates both files and holds the producer's lock. Their names stay until a collector unlinks
// them; destruction before publish() removes them.
//
// Destruction releases the lock and unmaps the files, unless keep_mapped() was called: mappings
// would keep the tmpfs pages of a closed ring for as long as the engine runs.
class ProducerSegment {
 public:
  ProducerSegment(ProducerSegment&&) = default;
  ProducerSegment& operator=(ProducerSegment&&) = delete;
  ~ProducerSegment();

  // `header` describes the model and the process. build() fills in sizes, offsets, ids and clocks.
  // `layers`: an entry for each layer, or none. No collector finds the segment before publish().
  static Result<ProducerSegment> build(const std::string& directory, const std::string& session,
                                       moetrace_ring_header header, const SegmentSizes& sizes,
                                       std::span<const moetrace_layer_entry> layers = {});
  // Lets collectors find the segment. Call it once.
  std::optional<Error> publish();
  // build() and publish().
  static Result<ProducerSegment> create(const std::string& directory, const std::string& session,
                                        moetrace_ring_header header, const SegmentSizes& sizes,
                                        std::span<const moetrace_layer_entry> layers = {});

  // Moves with the segment; the addresses in it stay valid.
  const SegmentMap& map() const { return map_; }
  const SegmentName& name() const { return name_; }
  // Keeps the mappings until the process ends: captured CUDA graphs hold their addresses.
  void keep_mapped() { keep_mapped_ = true; }
  // Gives up the lock: from here on the collector takes the producer for dead.
  void release() { lock_.release(); }
  // Call in a forked child. Closes its copy of the lock's descriptor. Leaves the mappings alone:
  // the child has none (MADV_DONTFORK) and may have mapped something else at their addresses.
  void release_in_child();

 private:
  ProducerSegment() = default;

  // Unlinks its files.
  struct Unpublished {
    Unpublished() = default;
    Unpublished(Unpublished&&) = default;
    Unpublished& operator=(Unpublished&&) = delete;
    ~Unpublished();
    // .ring and .ctl until they are published; then empty.
    std::vector<std::string> files;
  };

  SegmentMap map_;
  SegmentName name_;
  FileLock lock_;
  std::string directory_;
  // After lock_: unlinked while the lock is held.
  Unpublished unpublished_;
  bool keep_mapped_ = false;
};

}  // namespace moetrace
