#include <algorithm>
#include <filesystem>
#include <limits>

#include "daemon/cli/json_keys.hpp"
#include "daemon/cli/new_file.hpp"
#include "daemon/cli/route_lines.hpp"
#include "daemon/cli/row_losses.hpp"
#include "daemon/cli/trace_writer.hpp"
#include "daemon/collector/arrow_message.hpp"
#include "daemon/collector/row_batch.hpp"
#include "daemon/collector/running_totals.hpp"

namespace moetrace::cli {
namespace {

namespace fs = std::filesystem;

// The collector writes the same lines at the same places (segment_drain_write.cpp), but from a
// ring, whose slots say what was filtered. Here the lines say it.
class ArrowWriter : public TraceWriter {
 public:
  ArrowWriter(std::unique_ptr<NewFile> lines, std::unique_ptr<NewFile> rows, std::string rows_name,
              const trace::Meta& meta, const RowsForm& form, RowCompression compression,
              Losses& losses)
      : lines_(std::move(lines)),
        rows_(std::move(rows)),
        rows_name_(std::move(rows_name)),
        trace_id_(*meta.trace_id),
        form_(form),
        batch_(form),
        encoder_(compression),
        routes_(meta),
        losses_(losses) {}

  std::optional<Failure> begin(std::string_view text) override {
    return lines_->write(meta_with_rows(std::string(text) + "\n", form_, rows_name_));
  }

  std::optional<Failure> line(std::string_view text, const trace::Content& content) override {
    routes_.note(content);
    if (std::string why = pass(content); !why.empty()) return contradiction(why);
    if (auto wrong = begin_rows()) return wrong;
    // It is the last one: the line that counts all rows comes before it.
    if (std::holds_alternative<trace::End>(content)) {
      if (auto wrong = write_rest()) return wrong;
    }
    auto wrong =
        lines_->write(with_member(text, "\"at_seq\":" + std::to_string(totals_.next_seq())));
    return wrong ? wrong : lines_->write("\n");
  }

  std::optional<Failure> row(const trace::Route& route, const LinePlace& place) override;

  std::optional<Failure> finish() override {
    if (auto wrong = begin_rows()) return wrong;
    if (auto wrong = write_rest()) return wrong;
    if (auto wrong = rows_->complete()) return wrong;
    return lines_->complete();
  }

  // The rows come first: a file of lines appears only where its rows are.
  std::optional<Failure> publish() override {
    if (auto wrong = rows_->publish()) return wrong;
    auto wrong = lines_->publish();
    if (wrong) rows_->withdraw();
    return wrong;
  }

  bool outgrown() const override { return outgrown_; }

 private:
  static Failure contradiction(const std::string& why) {
    return {kFailed, why + "; see what is wrong with the trace: moetrace verify FILE"};
  }

  // Takes what a line says of the numbers before it. Returns why that can't be, or "".
  std::string pass(const trace::Content& content);
  std::optional<Failure> begin_rows();
  std::optional<Failure> write_batch();
  std::optional<Failure> name_rows();
  // The last batch, and what the lines after it have passed.
  std::optional<Failure> write_rest() {
    if (auto wrong = write_batch()) return wrong;
    return totals_.next_seq() != named_seq_ ? name_rows() : std::nullopt;
  }

  std::unique_ptr<NewFile> lines_;
  std::unique_ptr<NewFile> rows_;
  std::string rows_name_;
  std::string trace_id_;
  RowsForm form_;
  RowBatch batch_;
  BatchEncoder encoder_;
  RouteLines routes_;
  Losses& losses_;

  bool begun_ = false;  // the schema is written
  bool outgrown_ = false;
  std::uint64_t part_ = 1;
  RunningTotals start_;            // of the part
  RunningTotals totals_;           // of the numbers alone: nothing else counts here
  std::uint64_t named_seq_ = 0;    // of the last `rows` line
  std::uint64_t after_batch_ = 0;  // the number after the last row, or where the batch begins
  std::uint64_t batches_ = 0;
};

std::string ArrowWriter::pass(const trace::Content& content) {
  if (const auto* base = std::get_if<trace::Base>(&content)) {
    if (begun_) return "a part begins in the middle of the file";
    const auto& said = base->totals;
    const auto totals = RunningTotals::from_line({.seq = base->seq,
                                                  .attempted = said.attempted.value_or(0),
                                                  .delivered = said.delivered.value_or(0),
                                                  .filtered = said.filtered.value_or(0),
                                                  .dropped = said.dropped.value_or(0),
                                                  .torn = said.torn.value_or(0),
                                                  .event_lost = said.event_lost.value_or(0)});
    if (!totals) return "the totals of its first lines contradict each other";
    part_ = base->part.value_or(1);
    totals_ = start_ = *totals;
    named_seq_ = totals_.next_seq();
  } else if (const auto* step = std::get_if<trace::Step>(&content)) {
    static_cast<void>(totals_.filter_up_to(step->seq));
  } else if (const auto* torn = std::get_if<trace::Torn>(&content)) {
    if (torn->first_seq && !totals_.tear_slots(*torn->first_seq, torn->count))
      return "rows are torn that are in the file";
  } else if (const auto* end = std::get_if<trace::End>(&content)) {
    // The last filtered rows have no later number.
    const std::uint64_t filtered = totals_.filtered() - start_.filtered();
    if (end->filtered > filtered && end->filtered <= kMostRecords)
      static_cast<void>(totals_.filter_up_to(totals_.next_seq() + end->filtered - filtered));
  }
  return {};
}

// The part's number comes with the first line, if at all.
std::optional<Failure> ArrowWriter::begin_rows() {
  if (begun_) return std::nullopt;
  begun_ = true;
  after_batch_ = start_.next_seq();
  batch_.begin(after_batch_);
  return rows_->write(schema_message(form_, trace_id_, part_));
}

std::optional<Failure> ArrowWriter::row(const trace::Route& route, const LinePlace& place) {
  if (auto wrong = begin_rows()) return wrong;
  const std::string number = std::to_string(place.number);
  if (!route.seq || !route.step)
    return contradiction("line " + number + ": the row has no \"seq\" or no \"step\"");
  const std::uint64_t before = totals_.next_seq();
  if (!totals_.deliver(*route.seq)) {
    return contradiction("line " + number + ": \"seq\" is " + std::to_string(*route.seq) +
                         ", but the lines before it have passed all below " +
                         std::to_string(before));
  }
  constexpr std::uint64_t kMostSkipped = std::numeric_limits<std::uint32_t>::max();
  if (*route.seq - after_batch_ > kMostSkipped)
    return contradiction("line " + number + ": more than 2^32 numbers are left out before it");
  if (!place.text.empty()) {
    std::string_view text = routes_.line(route);
    text.remove_suffix(1);
    if (text != place.text) {
      if (auto lost = lose_in_row(losses_, route, place, text)) return lost;
    }
  }
  // Each row is a step of its own for the batch: rows of a step and layer still become one run.
  const RowBatch::Places places = batch_.begin_step(*route.step, 1);
  places.requests[0] = route.request.value_or(RowBatch::kUnknown);
  places.token_idx[0] = route.token_idx.value_or(RowBatch::kUnknown);
  if (!batch_.step_fits()) {
    outgrown_ = true;
    return Failure{kFailed, "line " + number +
                                ": a number has more than 32 bits; give the file by "
                                "its name, so that it can be read again"};
  }
  const RowBatch::Room room = batch_.add(0, 1, route.layer, *route.seq);
  const std::size_t own = route.expert_ids.size();
  std::copy_n(route.expert_ids.begin(), own, room.ids);
  std::copy_n(route.weights.begin(), own, room.weights);
  // A layer of a smaller top-k.
  std::fill(room.ids + own, room.ids + form_.top_k, trace::kNoExpert);
  std::fill(room.weights + own, room.weights + form_.top_k,
            std::numeric_limits<float>::quiet_NaN());
  after_batch_ = *route.seq + 1;
  return batch_.rows() < arrow::kSlotsABatch ? std::nullopt : write_batch();
}

std::optional<Failure> ArrowWriter::write_batch() {
  if (batch_.empty()) return std::nullopt;
  after_batch_ = totals_.next_seq();
  if (auto wrong = rows_->write(encoder_.encode(batch_, after_batch_, totals_.delivered())))
    return wrong;
  ++batches_;
  batch_.begin(after_batch_);
  return name_rows();
}

std::optional<Failure> ArrowWriter::name_rows() {
  named_seq_ = totals_.next_seq();
  LineBuffer line;
  append_rows(line, totals_, rows_->size(), batches_);
  return lines_->write(line.view());
}

}  // namespace

std::string lines_path(const std::string& rows_path) {
  return fs::path(rows_path).replace_extension(".jsonl").string();
}

NewWriter arrow_writer(const std::string& path, bool force, const trace::Meta& meta,
                       const RowsForm& form, RowCompression compression, Losses& losses) {
  auto rows = NewFile::begin(path, force);
  if (!rows) return rows.error();
  auto lines = NewFile::begin(lines_path(path), force);
  if (!lines) return lines.error();
  return std::make_unique<ArrowWriter>(std::move(*lines), std::move(*rows),
                                       fs::path(path).filename().string(), meta, form, compression,
                                       losses);
}

}  // namespace moetrace::cli
