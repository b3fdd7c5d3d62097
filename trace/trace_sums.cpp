#include "trace/trace_sums.hpp"

namespace moetrace::trace {
namespace {

// No trace counts further: at ten million rows a second it would take 3,600 years. So sums of a few
// numbers can't overflow.
constexpr std::uint64_t kMostOfEach = std::uint64_t{1} << 60;

std::string too_large(const char* key, std::uint64_t found) {
  return found > kMostOfEach ? "\"" + std::string(key) + "\" is " + std::to_string(found) +
                                   ", which is more than a trace can count"
                             : std::string();
}

// All six totals, none of them missing or too large; "" if so.
std::string check_present(const Totals& totals) {
  const std::pair<const char*, std::optional<std::uint64_t>> all[] = {
      {"attempted_total", totals.attempted}, {"delivered_total", totals.delivered},
      {"filtered_total", totals.filtered},   {"dropped_total", totals.dropped},
      {"torn_total", totals.torn},           {"event_lost_total", totals.event_lost}};
  for (const auto& [key, value] : all) {
    if (!value) return "missing key \"" + std::string(key) + "\"";
    if (std::string why = too_large(key, *value); !why.empty()) return why;
  }
  return {};
}

}  // namespace

std::string not_equal(const char* key, std::uint64_t found, std::uint64_t expected) {
  return "\"" + std::string(key) + "\" is " + std::to_string(found) +
         ", but the lines before it make " + std::to_string(expected);
}

void TraceSums::begin_file(const Base& base) {
  base_ = base;
  next_seq_ = base.seq;
  gaps_ = announced_rows_ = event_lost_ = delivered_ = dropped_ = torn_ = filtered_ = 0;
  first_gap_line_ = 0;
}

std::string TraceSums::start(const Base& base) {
  if (std::string why = check_present(base.totals); !why.empty()) return why;
  if (std::string why = too_large("seq", base.seq); !why.empty()) return why;
  if (std::string why = too_large("open", base.open); !why.empty()) return why;
  const Totals& t = base.totals;
  const std::uint64_t sum = *t.delivered + *t.filtered + *t.dropped + *t.torn + base.open;
  if (sum != *t.attempted) return not_equal("attempted_total", *t.attempted, sum);
  if (*t.event_lost > *t.dropped) {
    return "\"event_lost_total\" is " + std::to_string(*t.event_lost) +
           ", more than the dropped rows";
  }
  // Of the torn rows some had a number and some had not.
  const std::uint64_t numbered = *t.delivered + *t.filtered;
  if (base.seq < numbered || base.seq > numbered + *t.torn) {
    return "\"seq\" is " + std::to_string(base.seq) + ", but " + std::to_string(numbered) + " to " +
           std::to_string(numbered + *t.torn) + " numbers were used before this file";
  }
  begin_file(base);
  return {};
}

std::string TraceSums::go_on(const Base& part) {
  if (std::string why = check_present(part.totals); !why.empty()) return why;
  if (part.seq != next_seq_) {
    return "starts at seq " + std::to_string(part.seq) + ", but the part before it ends at " +
           std::to_string(next_seq_);
  }
  if (std::string why = check_totals(part.totals, filtered_); !why.empty()) return why;
  if (part.open != open()) return not_equal("open", part.open, open());
  begin_file(part);
  return {};
}

// Every number below `seq` is over.
std::string TraceSums::advance_to(std::uint64_t seq) {
  if (seq < next_seq_) {
    return "seq " + std::to_string(seq) + " does not rise, " + std::to_string(next_seq_) +
           " or more must come next";
  }
  if (seq > next_seq_ && first_gap_line_ == 0) {
    first_gap_line_ = line_;
    first_gap_seq_ = next_seq_;
  }
  gaps_ += seq - next_seq_;
  next_seq_ = seq;
  return {};
}

// Every row that was delivered, filtered, dropped or torn has been announced.
std::string TraceSums::check_room() const {
  const std::uint64_t over = delivered_ + gaps_ + dropped_ + torn_;
  if (over <= announced()) return {};
  return "makes " + std::to_string(over) + " rows in this file, but only " +
         std::to_string(announced()) + " were announced";
}

// `filtered` in this file must explain the gaps; the last ones of a file leave no later number to
// be seen by.
std::string TraceSums::check_gaps(std::uint64_t filtered, bool exactly) {
  if (gaps_ > filtered) {
    if (first_gap_line_ != 0) wrong_line_ = first_gap_line_;
    return "routes are missing: seq " + std::to_string(first_gap_seq_) + " should come next, " +
           std::to_string(gaps_ - filtered) + " in all are neither here nor torn nor filtered";
  }
  if (exactly && gaps_ < filtered) {
    const std::uint64_t earlier = *base_.totals.filtered;
    return not_equal("filtered_total", earlier + filtered, earlier + gaps_);
  }
  first_gap_line_ = 0;
  return {};
}

std::string TraceSums::check_totals(const Totals& now, std::uint64_t filtered) {
  const Totals& earlier = base_.totals;
  const struct {
    const char* key;
    std::uint64_t found, expected;
  } all[] = {
      {"attempted_total", *now.attempted, *earlier.attempted + announced_rows_ + event_lost_},
      {"delivered_total", *now.delivered, *earlier.delivered + delivered_},
      {"filtered_total", *now.filtered, *earlier.filtered + filtered},
      {"dropped_total", *now.dropped, *earlier.dropped + dropped_},
      {"torn_total", *now.torn, *earlier.torn + torn_},
      {"event_lost_total", *now.event_lost, *earlier.event_lost + event_lost_}};
  for (const auto& [key, found, expected] : all) {
    if (found != expected) return not_equal(key, found, expected);
  }
  return {};
}

std::string TraceSums::take(const Step& step) {
  if (std::string why = check_present(step.totals); !why.empty()) return why;
  if (step.rows > UINT32_MAX) {
    return "\"rows\" is " + std::to_string(step.rows) + ", which is more than a pass can have";
  }
  announced_rows_ += step.rows * step.layers;
  if (std::string why = too_large("rows", announced_rows_); !why.empty()) return why;
  if (std::string why = too_large("seq", step.seq); !why.empty()) return why;
  if (std::string why = advance_to(step.seq); !why.empty()) return why;
  const std::uint64_t earlier = *base_.totals.filtered;
  if (*step.totals.filtered < earlier) {
    return not_equal("filtered_total", *step.totals.filtered, earlier + gaps_);
  }
  if (std::string why = check_gaps(*step.totals.filtered - earlier, true); !why.empty()) return why;
  if (std::string why = check_totals(step.totals, gaps_); !why.empty()) return why;
  return check_room();
}

std::string TraceSums::take_route(std::uint64_t seq) {
  if (std::string why = too_large("seq", seq); !why.empty()) return why;
  if (std::string why = advance_to(seq); !why.empty()) return why;
  ++next_seq_;
  ++delivered_;
  return check_room();
}

std::string TraceSums::take(const Loss& loss) {
  if (loss.dropped == 0) return "\"dropped\" is 0, so nothing was lost";
  if (std::string why = too_large("dropped", loss.dropped); !why.empty()) return why;
  if (loss.cause == "event_ring_full") {
    event_lost_ += loss.dropped;
    if (std::string why = too_large("dropped", event_lost_); !why.empty()) return why;
  } else if (loss.cause != "ring_full") {
    return "\"cause\" is neither ring_full nor event_ring_full";
  }
  if (loss.after_seq) {
    if (std::string why = too_large("after_seq", *loss.after_seq); !why.empty()) return why;
    if (std::string why = advance_to(*loss.after_seq + 1); !why.empty()) return why;
  } else if (next_seq_ > 0) {
    return "\"after_seq\" is null, but routes came before it";
  }
  dropped_ += loss.dropped;
  const std::uint64_t dropped = *base_.totals.dropped + dropped_;
  if (loss.dropped_total != dropped) return not_equal("dropped_total", loss.dropped_total, dropped);
  if (!loss.event_lost_total) return "missing key \"event_lost_total\"";
  const std::uint64_t lost = *base_.totals.event_lost + event_lost_;
  if (*loss.event_lost_total != lost) {
    return not_equal("event_lost_total", *loss.event_lost_total, lost);
  }
  return check_room();
}

std::string TraceSums::take(const Torn& torn) {
  if (torn.count == 0) return "\"count\" is 0, so nothing is torn";
  if (std::string why = too_large("count", torn.count); !why.empty()) return why;
  if (torn.first_seq) {
    if (std::string why = too_large("first_seq", *torn.first_seq); !why.empty()) return why;
    if (std::string why = advance_to(*torn.first_seq); !why.empty()) return why;
    next_seq_ += torn.count;
  }
  torn_ += torn.count;
  return check_room();
}

std::string TraceSums::take(const RowsWritten& rows) const {
  if (std::string why = too_large("seq", rows.seq); !why.empty()) return why;
  const std::uint64_t delivered = *base_.totals.delivered + delivered_;
  if (rows.delivered_total != delivered) {
    return not_equal("delivered_total", rows.delivered_total, delivered);
  }
  // Numbers after the last row, which a line may still name as passed over.
  const std::uint64_t passed = rows.seq > next_seq_ ? rows.seq - next_seq_ : 0;
  const std::uint64_t filtered = *base_.totals.filtered + gaps_ + passed;
  if (rows.filtered_total != filtered) {
    return not_equal("filtered_total", rows.filtered_total, filtered);
  }
  return {};
}

std::string TraceSums::take(const End& end) {
  if (std::string why = too_large("filtered", end.filtered); !why.empty()) return why;
  if (std::string why = check_gaps(end.filtered, false); !why.empty()) return why;
  if (end.delivered != delivered_) return not_equal("delivered", end.delivered, delivered_);
  if (end.dropped != dropped_) return not_equal("dropped", end.dropped, dropped_);
  if (end.torn != torn_) return not_equal("torn", end.torn, torn_);
  const std::uint64_t over = delivered_ + end.filtered + dropped_ + torn_;
  // Rows of a step under way that a later part will have are attempted there.
  if (end.status != "continued" && end.attempted != announced()) {
    return not_equal("attempted", end.attempted, announced());
  }
  if (over != end.attempted) {
    return "attempted is " + std::to_string(end.attempted) +
           ", but delivered + filtered + dropped + torn is " + std::to_string(over);
  }
  if (over > announced()) return not_equal("attempted", end.attempted, announced());
  filtered_ = end.filtered;
  next_seq_ += filtered_ - gaps_;
  gaps_ = filtered_;
  return {};
}

}  // namespace moetrace::trace
