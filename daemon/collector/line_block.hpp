// The lines of one write when rows are lines. The drain collects lines and, of the rows, what it
// takes to make their lines; encoders make the text, a chunk each, on several threads.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "daemon/collector/line_batch.hpp"
#include "daemon/collector/lines.hpp"
#include "daemon/collector/route_text.hpp"
#include "shm/segment_map.hpp"

namespace moetrace {

// Consecutive rows of one step, layer and span; their records are in the ring, from `position` on.
struct RouteRows {
  std::uint64_t position;
  // Of the first row; nothing if unknown.
  std::optional<std::uint64_t> token_idx;
  const RouteOrigin* origin;
  std::uint32_t count;
  std::uint16_t layer;
};

// Appends the lines of such rows. `step`: from RouteText::step_text(). Several threads may call it
// at once, as long as the rows stay in the ring.
void append_routes(LineBuffer& out, const RouteText& text, const SegmentMap& map,
                   const MappedRing& ring, const RouteRows& rows, std::string_view step);

class LineBlock {
 public:
  // Rows of one chunk: about 30 us of work, far more than handing it to another thread takes.
  static constexpr std::uint32_t kRowsAChunk = 128;

  // `text`, `map` and `ring` outlive the block.
  LineBlock(const RouteText& text, const SegmentMap& map, const MappedRing& ring)
      : text_(&text), map_(&map), ring_(&ring) {}

  void clear();
  std::uint64_t rows() const { return rows_; }
  void add_rows(std::uint64_t step, const RouteRows& rows);
  // Runs of rows count in these: rows that were added together, at most kRowsAChunk.
  std::size_t entries() const { return entries_.size(); }

  // Takes the lines and the runs, and cuts the whole into chunks. Leaves `lines` and `runs` empty.
  void close(LineBuffer& lines, std::vector<Run>& runs);
  std::size_t chunks() const { return chunks_in_use_; }
  // Makes the text of a chunk. Each chunk once; several threads may work on different chunks.
  void encode(std::size_t chunk);
  // After encode(). The chunks follow each other in the file.
  std::string_view text(std::size_t chunk) const { return chunks_[chunk].text.view(); }
  // After all chunks: the runs with their text, in the order of the file.
  const std::vector<Run>& runs() const { return runs_; }

 private:
  // Threads grow the texts of neighbours: keep those in cache lines of their own.
  struct alignas(64) Chunk {
    // Of runs_.
    std::size_t first_run = 0;
    std::size_t runs = 0;
    LineBuffer text;
  };
  struct Entry {
    RouteRows rows;
    // In steps_.
    std::uint32_t step;
  };

  const RouteText* text_;
  const SegmentMap* map_;
  const MappedRing* ring_;
  std::uint64_t rows_ = 0;
  std::vector<Entry> entries_;
  std::optional<std::uint64_t> last_step_;
  std::vector<std::string> steps_;
  LineBuffer lines_;
  std::vector<Run> runs_;
  // Those after the first chunks_in_use_ only keep their memory.
  std::vector<Chunk> chunks_;
  std::size_t chunks_in_use_ = 0;
};

}  // namespace moetrace
