// The lines of a trace file (schema moetrace/1, and the plain public format it grew from).
//
// Every string_view and span of a line lives in the reader and is valid until its next call to
// next(). An empty optional is a JSON null or, where a comment says so, a key that the file does
// not have.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace moetrace::trace {

constexpr uint32_t kMaxTopK = 32;
constexpr uint32_t kMaxLayers = 256;
// Ids are 16 bits in the ring, and 0xFFFF means none there, so a model has at most 65,535 experts.
constexpr uint32_t kMaxExperts = 0xFFFF;
constexpr uint16_t kNoExpert = 0xFFFF;

// How the model's router makes weights of scores. Absent keys keep these values.
struct Router {
  std::string score;  // "softmax", "sigmoid", …; empty if the file does not say
  std::optional<bool> renormalized;
  std::optional<double> scaling;
  std::optional<bool> biased;      // chosen by score + bias
  std::optional<uint32_t> groups;  // chosen within the best topk_groups of these
  std::optional<uint32_t> topk_groups;
};

struct Ranks {
  uint32_t tp = 0, dp = 0, pp = 0, ep = 0;
};

// Where the rows of a part are whose meta line says that they are in another file.
struct RowsMeta {
  std::string file;                    // a base name
  std::optional<std::string> weights;  // "float32" or "float16"; empty: not stored
  bool wide = false;
};

// What the engine declared of one MoE layer; an empty optional: not known.
struct LayerMeta {
  uint16_t layer = 0;
  std::optional<uint32_t> experts;       // routed, ids from 0
  std::optional<uint32_t> zero_experts;  // zero-computation, ids after those
  std::optional<uint32_t> top_k;
  std::optional<std::string> score;
  std::optional<bool> renormalized;
  std::optional<double> scaling;
  std::optional<bool> biased;
  std::optional<uint32_t> groups;  // chosen within the best topk_groups of these; 1: among all
  std::optional<uint32_t> topk_groups;
  std::optional<bool> table;  // looked up by the token's id instead of chosen by a score
};

// The first line; in a plain log there may be several, or none. Owns its strings. Only in a trace
// are top_k and layers_logged sure to be there.
struct Meta {
  std::optional<std::string> model_id;
  std::optional<std::string> vllm_version;
  std::optional<std::string> torch_version;
  std::optional<std::string> device;
  std::optional<int64_t> seed;
  std::vector<uint16_t> layers_logged;  // in file order, each below kMaxLayers
  uint32_t top_k = 0;                   // of all layers, the largest; 1 to kMaxTopK; 0: not known
  std::optional<uint32_t> num_experts;  // the same; 1 to kMaxExperts; plain logs lack it
  std::string schema;                   // "moetrace/1"; empty in a plain log
  std::optional<std::string> trace_id;
  std::optional<std::string> engine;
  std::optional<std::string> engine_version;
  std::optional<uint32_t> num_layers;  // 1 to kMaxLayers
  Router router;
  std::optional<uint32_t> rank;
  std::optional<uint32_t> world_size;
  Ranks ranks;
  std::optional<std::string> host;
  std::optional<double> created_at;      // Unix seconds
  std::optional<uint64_t> sample_every;  // at the start: every n-th step is recorded; 0: none is
  std::vector<std::string> notes;        // what a reader must know
  std::optional<RowsMeta> rows;          // only where they are in another file
  std::optional<std::string> engine_id;  // the same in all processes of one engine
  // The MoE layers, ascending, none with more than top_k and num_experts; empty: not declared.
  std::optional<std::vector<LayerMeta>> layers;
  std::string text;  // the line as it stands in the file, without its newline; empty: none came

  [[nodiscard]] bool plain() const { return schema.empty(); }
  // What `layers` has of a layer; nullptr: nothing.
  [[nodiscard]] const LayerMeta* declared(uint16_t layer) const;
  // Entries of the layer's rows, as far as the line says; 0: not known.
  [[nodiscard]] uint32_t top_k_of(uint16_t layer) const;
  // The ids of the layer are below; empty: not known.
  [[nodiscard]] std::optional<uint32_t> ids_of(uint16_t layer) const;
};

// One row in one layer: which experts, and the router's weights for them.
struct Route {
  std::optional<std::string_view> req_id;
  std::optional<uint64_t> token_idx;  // position in the request (in the pass, in plain logs)
  uint16_t layer = 0;
  std::span<const uint16_t> expert_ids;  // as many as the layer's top_k; null is kNoExpert
  std::span<const float> weights;        // as many; null is NaN
  // Absent in plain logs.
  std::optional<uint64_t> request;
  std::optional<uint64_t> step;
  std::optional<uint64_t> seq;
};

// Rows of a rows file, as columns of one length. -1: null.
struct RowRun {
  std::span<const int64_t> request;
  std::span<const int64_t> token_idx;
  std::span<const int64_t> step;
  std::span<const int64_t> seq;
  std::span<const uint16_t> layer;
  std::span<const uint16_t> expert_ids;  // [rows][top_k]; null is kNoExpert
  std::span<const float> weights;        // [rows][top_k]; null is NaN

  [[nodiscard]] size_t size() const { return seq.size(); }
  [[nodiscard]] RowRun part(size_t first, size_t count) const {
    const size_t k = size() == 0 ? 0 : expert_ids.size() / size();
    return {request.subspan(first, count),        token_idx.subspan(first, count),
            step.subspan(first, count),           seq.subspan(first, count),
            layer.subspan(first, count),          expert_ids.subspan(first * k, count * k),
            weights.subspan(first * k, count * k)};
  }
};

// What the rows file held when this line was written.
struct RowsWritten {
  uint64_t seq = 0;  // every row with a smaller number is in the rows file, or filtered or torn
  uint64_t bytes = 0;
  uint64_t batches = 0;
  uint64_t delivered_total = 0;
  uint64_t filtered_total = 0;
};

// Cumulative counts at a place of the file; each is empty where the line does not give it.
struct Totals {
  std::optional<uint64_t> attempted;
  std::optional<uint64_t> delivered;
  std::optional<uint64_t> filtered;
  std::optional<uint64_t> dropped;
  std::optional<uint64_t> torn;
  std::optional<uint64_t> event_lost;  // the part of dropped whose step was never announced
};

struct Step {
  uint64_t step = 0;
  uint64_t rows = 0;
  uint64_t layers = 0;             // how many layers are recorded; 0: this step only counts
  std::optional<int64_t> time_ns;  // since created_at
  uint64_t seq = 0;                // the next route's number
  uint64_t event = 0;              // first event slot of the announcement
  Totals totals;                   // dropped is always there
};

struct Request {
  std::optional<std::string_view> req_id;
  std::optional<uint64_t> prompt_tokens;
  std::optional<uint64_t> cached_tokens;
  uint64_t request = 0;
  std::optional<uint64_t> event;  // null where a file starts late with the live requests
};

struct RequestEnd {
  std::optional<std::string_view> req_id;
  std::optional<uint64_t> generated_tokens;
  std::optional<std::string_view> status;
  uint64_t request = 0;
  uint64_t event = 0;
};

struct Loss {
  uint64_t dropped = 0;
  uint64_t dropped_total = 0;
  std::string_view cause;                    // "ring_full" or "event_ring_full"
  std::optional<uint64_t> after_seq;         // empty if no route came before
  std::optional<uint64_t> event_lost_total;  // may be absent
};

struct Torn {
  std::optional<uint64_t> first_seq;
  uint64_t count = 0;
};

// Where a file begins that is not the start of its trace: a `base` line if its collector started
// late, a `part` line if the file goes on with an earlier one. The second line, if it is there.
struct Base {
  std::optional<uint64_t> part;  // from 2 on; empty in a `base` line
  uint64_t seq = 0;
  uint64_t event = 0;
  std::optional<uint64_t> step;
  uint64_t open = 0;  // rows x layers of a step begun before this file which are still to come
  Totals totals;      // dropped is always there
};

// The selection changed while running.
struct Control {
  std::span<const uint16_t> layers;
  uint64_t sample_every = 0;  // 0: count without recording
  uint64_t from_step = 0;
  std::optional<bool> enabled;             // false: tracing is stopped; may be absent
  std::optional<uint64_t> event;           // may be absent
  std::optional<std::string_view> reason;  // why the collector stopped tracing; else absent
};

// What tracing cost the engine's threads since the trace began, in nanoseconds; null where the
// engine's library did not measure it.
struct Cost {
  std::optional<uint64_t> announce_ns;  // announcing steps and requests
  std::optional<uint64_t> hook_ns;      // calls of the hook
};

// How full the ring has been since the trace began, as its collectors saw it.
struct Ring {
  uint64_t slots = 0;
  uint64_t high_water = 0;  // the most rows that were in it; at most `slots`
};

// Totals of the file, not of the trace.
struct End {
  uint64_t attempted = 0;
  uint64_t delivered = 0;
  uint64_t filtered = 0;
  uint64_t dropped = 0;
  uint64_t torn = 0;
  std::string_view status;       // "closed", "producer died", "continued" or "bad segment"
  std::optional<Cost> cost;      // absent in the oldest traces
  std::optional<uint64_t> open;  // with "continued": announced rows that are left to the next part
  std::optional<Ring> ring;      // absent in older traces
};

// A type that this reader does not know. Consumers ignore it.
struct Unknown {
  std::string_view type;
};

using Content = std::variant<Unknown, Route, Step, Request, RequestEnd, Loss, Torn, Base, Control,
                             End, RowsWritten, RowRun>;

struct Line {
  uint64_t number = 0;  // from 1, which is the meta line; of a row of a rows file: the line before
  std::string_view text;  // without its newline; empty: a row of a rows file
  Content content;
};

}  // namespace moetrace::trace
