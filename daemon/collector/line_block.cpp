#include "daemon/collector/line_block.hpp"

#include <cstring>

#include "shm/route_layout.hpp"

namespace moetrace {

void append_routes(LineBuffer& out, const RouteText& text, const SegmentMap& map,
                   const MappedRing& ring, const RouteRows& rows, std::string_view step) {
  const RouteLayout layout = map.route_layout();
  const std::uint32_t top_k = map.layers().top_k_of(rows.layer);
  std::optional<std::uint64_t> token = rows.token_idx;
  for (std::uint32_t n = 0; n < rows.count; ++n) {
    const std::byte* slot = ring.slot(rows.position + n);
    std::uint16_t ids[MOETRACE_MAX_TOP_K];
    float weights[MOETRACE_MAX_TOP_K];
    std::memcpy(ids, slot + layout.ids_offset(), top_k * sizeof *ids);
    std::memcpy(weights, slot + layout.weights_offset(), top_k * sizeof *weights);
    text.append(out, *rows.origin, token, rows.layer, ids, weights, step, rows.position + n);
    if (token) ++*token;
  }
}

void LineBlock::clear() {
  rows_ = 0;
  entries_.clear();
  steps_.clear();
  last_step_.reset();
  lines_.clear();
  runs_.clear();
  chunks_in_use_ = 0;
}

void LineBlock::add_rows(std::uint64_t step, const RouteRows& rows) {
  if (step != last_step_) {
    steps_.push_back(RouteText::step_text(step));
    last_step_ = step;
  }
  rows_ += rows.count;
  const auto number = static_cast<std::uint32_t>(steps_.size() - 1);
  RouteRows rest = rows;
  while (rest.count > kRowsAChunk) {
    entries_.push_back({rest, number});
    entries_.back().rows.count = kRowsAChunk;
    rest.position += kRowsAChunk;
    rest.count -= kRowsAChunk;
    if (rest.token_idx) *rest.token_idx += kRowsAChunk;
  }
  entries_.push_back({rest, number});
}

// Cuts a run of rows where its chunk is full. Both pieces keep its totals: only those of the last
// run count.
void LineBlock::close(LineBuffer& lines, std::vector<Run>& runs) {
  std::swap(lines, lines_);
  lines.clear();
  std::uint32_t in_chunk = 0;
  const auto add = [&](const Run& run) {
    if (chunks_in_use_ == 0 || in_chunk >= kRowsAChunk) {
      if (++chunks_in_use_ > chunks_.size()) chunks_.emplace_back();
      Chunk& chunk = chunks_[chunks_in_use_ - 1];
      chunk.text.clear();
      chunk.first_run = runs_.size();
      chunk.runs = 0;
      in_chunk = 0;
    }
    ++chunks_[chunks_in_use_ - 1].runs;
    runs_.push_back(run);
  };
  for (Run& run : runs) {
    if (!run.route) {
      add(run);
      continue;
    }
    while (run.begin < run.end) {
      Run piece = run;
      piece.end = piece.begin;
      piece.count = 0;
      // A new chunk begins with it if the present one is full.
      std::uint32_t rows = in_chunk < kRowsAChunk && chunks_in_use_ > 0 ? in_chunk : 0;
      for (; piece.end < run.end && rows < kRowsAChunk; ++piece.end) {
        rows += entries_[piece.end].rows.count;
        piece.count += entries_[piece.end].rows.count;
      }
      piece.first_seq = entries_[piece.begin].rows.position;
      add(piece);
      in_chunk = rows;
      run.begin = piece.end;
    }
  }
  runs.clear();
}

void LineBlock::encode(std::size_t number) {
  Chunk& chunk = chunks_[number];
  for (std::size_t n = chunk.first_run; n < chunk.first_run + chunk.runs; ++n) {
    Run& run = runs_[n];
    const std::size_t begin = chunk.text.size();
    if (run.route) {
      for (std::size_t e = run.begin; e < run.end; ++e)
        append_routes(chunk.text, *text_, *map_, *ring_, entries_[e].rows,
                      steps_[entries_[e].step]);
    } else {
      chunk.text.append(lines_.view().substr(run.begin, run.end - run.begin));
    }
    run.begin = begin;
    run.end = chunk.text.size();
  }
  // The text has its place now.
  for (std::size_t n = chunk.first_run; n < chunk.first_run + chunk.runs; ++n)
    runs_[n].text = chunk.text.view().substr(runs_[n].begin, runs_[n].end - runs_[n].begin);
}

}  // namespace moetrace
