// The text of the trace's lines, but for route lines (route_text.hpp). `meta` and strings go
// through nlohmann/json.
#pragma once

#include <charconv>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/collector/event_reader.hpp"
#include "shm/abi.h"
#include "shm/cost.hpp"

namespace moetrace {

// Text that grows at its end.
class LineBuffer {
 public:
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::string_view view() const { return {text_.data(), size_}; }
  void clear() { size_ = 0; }

  // Room for `bytes` more; tell with set_end() how far it was used.
  char* room(std::size_t bytes) {
    if (text_.size() - size_ < bytes) text_.resize(2 * text_.size() + bytes);
    return text_.data() + size_;
  }
  void set_end(const char* end) { size_ = static_cast<std::size_t>(end - text_.data()); }

  // Strings as they are, numbers in decimal, nothing (std::nullopt) as null.
  template <class... Parts>
  void append(const Parts&... parts) {
    (append_one(parts), ...);
  }

 private:
  void append_one(std::string_view text) {
    std::memcpy(room(text.size()), text.data(), text.size());
    size_ += text.size();
  }
  template <class T>
  requires std::is_integral_v<T>
  void append_one(T number) {
    char* at = room(24);
    set_end(std::to_chars(at, at + 24, number).ptr);
  }
  template <class T>
  void append_one(const std::optional<T>& value) {
    if (value) {
      append_one(*value);
    } else {
      append_one(std::string_view("null"));
    }
  }

  std::string text_;
  std::size_t size_ = 0;
};

// How a file ends: the "status" of its `end` line.
inline constexpr std::string_view kClosed = "closed";
inline constexpr std::string_view kProducerDied = "producer died";
inline constexpr std::string_view kContinued = "continued";        // in the trace's next part
inline constexpr std::string_view kBadSegmentEnd = "bad segment";  // which said what can't be

// No trace has more records than this, and sums of a few such numbers do not overflow.
inline constexpr std::uint64_t kMostRecords = std::uint64_t{1} << 60;

// Running totals of a trace, in route records.
struct Totals {
  std::uint64_t attempted = 0;  // announced, the step under way included
  std::uint64_t delivered = 0;
  std::uint64_t filtered = 0;
  std::uint64_t hook_dropped = 0;
  std::uint64_t event_lost = 0;
  std::uint64_t holes = 0;      // torn: slots that were claimed and never became valid
  std::uint64_t unclaimed = 0;  // torn: announced, not dropped, and never seen in a slot

  std::uint64_t dropped() const { return hook_dropped + event_lost; }
  std::uint64_t torn() const { return holes + unclaimed; }
  std::uint64_t accounted() const { return delivered + filtered + dropped() + torn(); }
  // Announced and still to come. Ask possible() first where the numbers are not our own.
  std::uint64_t open() const { return attempted - accounted(); }
  // False if no trace can have these totals: a number is beyond kMostRecords, or more records are
  // accounted for than were announced.
  bool possible() const;
  // Whether they can be later totals of the trace that has these; else since() makes no sense.
  bool follow(const Totals& start) const;

  // What has come since `start`; what was open then counts as attempted since.
  Totals since(const Totals& start) const {
    return {attempted - (start.attempted - start.open()),
            delivered - start.delivered,
            filtered - start.filtered,
            hook_dropped - start.hook_dropped,
            event_lost - start.event_lost,
            holes - start.holes,
            unclaimed - start.unclaimed};
  }
};

// A JSON string with its quotes; bytes that are not UTF-8 are replaced.
std::string json_string(std::string_view text);

std::string meta_line(const moetrace_ring_header& header, const std::string& trace_id);
// Where a file starts that does not begin with the trace: the first slots in it, and of what is
// announced already the step that is under way. `part` 1: a `base` line, the collector came late
// and found no file; above: a `part` line.
void append_start(LineBuffer& out, std::uint64_t part, const Totals& totals, std::uint64_t seq,
                  std::uint64_t event, std::optional<std::uint64_t> step);
// `event` is nothing where the request is only known from the segment's table.
void append_request(LineBuffer& out, const RequestEvent& request,
                    std::optional<std::uint64_t> event);
void append_request_end(LineBuffer& out, const RequestEndEvent& end, const std::string& json_id,
                        std::uint64_t event);
void append_step(LineBuffer& out, const StepEvent& step, const Totals& totals, std::uint64_t seq,
                 std::uint64_t event);
void append_control(LineBuffer& out, const ControlEvent& control, std::uint64_t event);
void append_loss(LineBuffer& out, std::uint64_t dropped, const Totals& totals,
                 std::string_view cause, std::optional<std::uint64_t> after_seq);
void append_torn(LineBuffer& out, std::optional<std::uint64_t> first_seq, std::uint64_t count);
// `totals`: of the file. `cost`: of the whole trace; nothing where the producer does not say it.
// `open`: with kContinued, the announced rows that are left to the next part; `totals` are without
// them.
void append_end(LineBuffer& out, const Totals& totals, std::string_view status,
                const std::optional<Cost>& cost, std::uint64_t open = 0);

// The part of a route line that all rows of a span share.
struct RouteOrigin {
  std::string prefix;  // {"type":"route","req_id":"r0","token_idx":
  std::string suffix;  // ],"request":0,"step":
};
RouteOrigin route_origin(const std::string& json_id, std::optional<std::uint64_t> request);

}  // namespace moetrace
