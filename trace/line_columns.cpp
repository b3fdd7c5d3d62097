#include "trace/line_columns.hpp"

#include <limits>

namespace moetrace::trace {
namespace {

constexpr int64_t kUnknown = -1;

// Copies the numbers of a line into int64 columns, and remembers whether all of them fit.
class Columns {
 public:
  Columns(const Content& content, moetrace_reader_place place, moetrace_reader_line& line)
      : line_(line) {
    line = {.kind = kind_of(content),
            .code = 0,
            .enabled = -1,
            .reserved = 0,
            .place = place,
            .layer_mask = {}};
    for (int64_t* const column : {&line.step,
                                  &line.rows,
                                  &line.layers,
                                  &line.time_ns,
                                  &line.seq,
                                  &line.event,
                                  &line.attempted,
                                  &line.delivered,
                                  &line.filtered,
                                  &line.dropped,
                                  &line.torn,
                                  &line.event_lost,
                                  &line.open,
                                  &line.part,
                                  &line.count,
                                  &line.request,
                                  &line.prompt_tokens,
                                  &line.cached_tokens,
                                  &line.generated_tokens,
                                  &line.sample_every,
                                  &line.from_step,
                                  &line.announce_ns,
                                  &line.hook_ns,
                                  &line.ring_slots,
                                  &line.high_water}) {
      *column = kUnknown;
    }
  }

  bool fit() const { return fit_; }

  void take(const Unknown&) {}
  void take(const Route&) {}
  void take(const RowsWritten&) {}
  void take(const RowRun&) {}

  void take(const Step& step) {
    put(line_.step, step.step);
    put(line_.rows, step.rows);
    put(line_.layers, step.layers);
    line_.time_ns = step.time_ns.value_or(kUnknown);
    put(line_.seq, step.seq);
    put(line_.event, step.event);
    put(step.totals);
  }

  void take(const Request& request) {
    put(line_.request, request.request);
    put(line_.prompt_tokens, request.prompt_tokens);
    put(line_.cached_tokens, request.cached_tokens);
    put(line_.event, request.event);
  }

  void take(const RequestEnd& end) {
    put(line_.request, end.request);
    put(line_.generated_tokens, end.generated_tokens);
    put(line_.event, end.event);
  }

  void take(const Loss& loss) {
    if (loss.cause == "ring_full") line_.code = MOETRACE_READER_RING_FULL;
    if (loss.cause == "event_ring_full") line_.code = MOETRACE_READER_EVENT_RING_FULL;
    put(line_.count, loss.dropped);
    put(line_.dropped, loss.dropped_total);
    put(line_.event_lost, loss.event_lost_total);
    put(line_.seq, loss.after_seq);
  }

  void take(const Torn& torn) {
    put(line_.seq, torn.first_seq);
    put(line_.count, torn.count);
  }

  void take(const Base& base) {
    put(line_.part, base.part);
    put(line_.seq, base.seq);
    put(line_.event, base.event);
    put(line_.step, base.step);
    put(line_.open, base.open);
    put(base.totals);
  }

  void take(const Control& control) {
    if (control.reason == "max-total-size") line_.code = MOETRACE_READER_MAX_TOTAL_SIZE;
    if (control.enabled) line_.enabled = *control.enabled ? 1 : 0;
    for (const uint16_t layer : control.layers)
      line_.layer_mask[layer / 64] |= uint64_t{1} << layer % 64;
    put(line_.sample_every, control.sample_every);
    put(line_.from_step, control.from_step);
    put(line_.event, control.event);
  }

  void take(const End& end) {
    if (end.status == "closed") line_.code = MOETRACE_READER_CLOSED;
    if (end.status == "producer died") line_.code = MOETRACE_READER_PRODUCER_DIED;
    if (end.status == "continued") line_.code = MOETRACE_READER_CONTINUED;
    if (end.status == "bad segment") line_.code = MOETRACE_READER_BAD_SEGMENT;
    put(line_.attempted, end.attempted);
    put(line_.delivered, end.delivered);
    put(line_.filtered, end.filtered);
    put(line_.dropped, end.dropped);
    put(line_.torn, end.torn);
    put(line_.open, end.open);
    if (end.ring) {
      put(line_.ring_slots, end.ring->slots);
      put(line_.high_water, end.ring->high_water);
    }
    if (!end.cost) return;
    put(line_.announce_ns, end.cost->announce_ns);
    put(line_.hook_ns, end.cost->hook_ns);
  }

 private:
  void put(int64_t& column, std::optional<uint64_t> value) {
    if (!value) return;
    fit_ = fit_ && *value <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    column = static_cast<int64_t>(*value);
  }
  void put(const Totals& totals) {
    put(line_.attempted, totals.attempted);
    put(line_.delivered, totals.delivered);
    put(line_.filtered, totals.filtered);
    put(line_.dropped, totals.dropped);
    put(line_.torn, totals.torn);
    put(line_.event_lost, totals.event_lost);
  }

  moetrace_reader_line& line_;
  bool fit_ = true;
};

struct LineKind {
  uint32_t operator()(const Unknown&) const { return 0; }
  uint32_t operator()(const Route&) const { return 0; }
  uint32_t operator()(const RowsWritten&) const { return 0; }
  uint32_t operator()(const RowRun&) const { return 0; }
  uint32_t operator()(const Step&) const { return MOETRACE_READER_STEP; }
  uint32_t operator()(const Request&) const { return MOETRACE_READER_REQUEST; }
  uint32_t operator()(const RequestEnd&) const { return MOETRACE_READER_REQUEST_END; }
  uint32_t operator()(const Loss&) const { return MOETRACE_READER_LOSS; }
  uint32_t operator()(const Torn&) const { return MOETRACE_READER_TORN; }
  uint32_t operator()(const Base&) const { return MOETRACE_READER_BASE; }
  uint32_t operator()(const Control&) const { return MOETRACE_READER_CONTROL; }
  uint32_t operator()(const End&) const { return MOETRACE_READER_END; }
};

}  // namespace

uint32_t kind_of(const Content& content) {
  return std::visit(LineKind{}, content);
}

bool fill_line(const Content& content, moetrace_reader_place place, moetrace_reader_line& line) {
  Columns columns(content, place, line);
  std::visit([&](const auto& of) { columns.take(of); }, content);
  return columns.fit();
}

}  // namespace moetrace::trace
