// The text of every trace line except route lines (route_text.hpp). nlohmann/json makes `meta` and
// strings.
#pragma once

#include <charconv>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/collector/event_reader.hpp"
#include "daemon/collector/running_totals.hpp"
#include "shm/abi.h"
#include "shm/cost.hpp"
#include "shm/layer_table.hpp"
#include "shm/ring_use.hpp"

namespace moetrace {

// Text that grows at its end.
class LineBuffer {
 public:
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::string_view view() const { return {text_.data(), size_}; }
  void clear() { size_ = 0; }
  // Keeps the first `size` bytes.
  void cut_to(std::size_t size) { size_ = size; }

  // Room for `bytes` more. Call set_end() with the end of what you wrote there.
  char* room(std::size_t bytes) {
    if (text_.size() - size_ < bytes) text_.resize(2 * text_.size() + bytes);
    return text_.data() + size_;
  }
  void set_end(const char* end) { size_ = static_cast<std::size_t>(end - text_.data()); }

  // Appends strings as they are, numbers in decimal, std::nullopt as null.
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
// The trace's next part follows.
inline constexpr std::string_view kContinued = "continued";
// The segment contradicted itself.
inline constexpr std::string_view kBadSegmentEnd = "bad segment";

// A JSON string with its quotes; bytes that are not UTF-8 are replaced.
std::string json_string(std::string_view text);

// `layers`: of the segment with this header.
std::string meta_line(const moetrace_ring_header& header, const LayerTable& layers,
                      const std::string& trace_id);
// Where a file starts that does not begin with its trace: the totals there, the first event that is
// not written yet, and the step under way. `part` 1: a `base` line, for a collector that came late
// and found no file; above: a `part` line.
void append_start(LineBuffer& out, std::uint64_t part, const RunningTotals& totals,
                  std::uint64_t event, std::optional<std::uint64_t> step);
// `event`: nothing if only the segment's table knows the request.
void append_request(LineBuffer& out, const RequestEvent& request,
                    std::optional<std::uint64_t> event);
void append_request_end(LineBuffer& out, const RequestEndEvent& end, const std::string& json_id,
                        std::uint64_t event);
// `time_ns`: of the step; nothing if it is not known.
void append_step(LineBuffer& out, const StepEvent& step, std::optional<std::int64_t> time_ns,
                 const RunningTotals& totals, std::uint64_t event);
// `reason`: why recording stops; "": somebody has asked for it.
void append_control(LineBuffer& out, const ControlEvent& control, std::uint64_t event,
                    std::string_view reason = {});
void append_loss(LineBuffer& out, std::uint64_t dropped, const RunningTotals& totals,
                 std::string_view cause, std::optional<std::uint64_t> after_seq);
void append_torn(LineBuffer& out, std::optional<std::uint64_t> first_seq, std::uint64_t count);
// `totals`: of the file. `cost`: of the whole trace; nothing if the producer does not give it.
// `use`: of the trace so far; nothing if it had no ring. `open`: with kContinued, the announced
// rows that are left to the next part; `totals` leave them out.
void append_end(LineBuffer& out, const RunningTotals& totals, std::string_view status,
                const std::optional<Cost>& cost, const std::optional<RingUse>& use,
                std::uint64_t open = 0);

// States in the last line, of a part with Arrow rows, its place among the rows: those below
// `at_seq` come before it.
void add_at_seq(LineBuffer& out, std::uint64_t at_seq);
// Every row below `totals.next_seq()` is in the rows file, which has `bytes` and `batches`.
void append_rows(LineBuffer& out, const RunningTotals& totals, std::uint64_t bytes,
                 std::uint64_t batches);

// The text that the route lines of a span share.
struct RouteOrigin {
  std::optional<std::uint64_t> request;
  std::string prefix;  // {"type":"route","req_id":"r0","token_idx":
  std::string suffix;  // ],"request":0,"step":

  // "r0", of the prefix.
  std::string_view json_id() const;
};
RouteOrigin route_origin(const std::string& json_id, std::optional<std::uint64_t> request);

}  // namespace moetrace
