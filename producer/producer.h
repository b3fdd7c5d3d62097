/* clang-format off */
/* The C API of the moetrace hook: an engine calls it to have its routing recorded.
 *
 * Between moetrace_open and moetrace_close no call fails, waits, takes a lock or makes a system
 * call (the clock is read through the vDSO); a call that launches a kernel costs that launch. What
 * does not fit into the ring is dropped and counted. moetrace_no_collector is the one slow call.
 *
 *   - Call from one thread at a time per producer.
 *   - NULL is a valid producer: the call does nothing, so an engine needs no `if`.
 *   - In a forked child every call on an inherited producer does nothing.
 *
 * Announce each pass before it runs. Only rows of an announced pass are recorded.
 *
 *     char why[256];
 *     moetrace_options options;
 *     moetrace_options_init(&options, sizeof options);
 *     options.model_id = "my/model";
 *     options.num_layers = 24;
 *     options.num_experts = 60;
 *     options.top_k = 4;
 *     moetrace_producer* p = moetrace_enabled() ? moetrace_open(&options, why, sizeof why) : NULL;
 *
 *     uint64_t r = moetrace_request_begin(p, "r0", prompt_tokens, 0);
 *     moetrace_span span = {.request = r, .rows = prompt_tokens};    from position 0, in row 0
 *     moetrace_step_begin(p, prompt_tokens, &span, 1);
 *     in each MoE layer, after the router:
 *       moetrace_record(p, layer, ids, MOETRACE_INT64, weights, MOETRACE_FLOAT32, rows);
 *     moetrace_request_end(p, r, generated, "length");
 *     moetrace_close(p);
 */
/* clang-format on */
#ifndef MOETRACE_PRODUCER_PRODUCER_H
#define MOETRACE_PRODUCER_PRODUCER_H

#include <stddef.h>
#include <stdint.h>

#include "shm/abi.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MOETRACE_API __attribute__((visibility("default")))

typedef struct moetrace_producer moetrace_producer;

/* Element types of ids (the integers) and weights (the floats). */
typedef enum moetrace_type {
  MOETRACE_INT16 = 1,
  MOETRACE_INT32 = 2,
  MOETRACE_INT64 = 3,
  MOETRACE_UINT32 = 4,
  MOETRACE_FLOAT32 = 16,
  MOETRACE_BFLOAT16 = 17,
  MOETRACE_FLOAT16 = 18
} moetrace_type;

/* ---- opening and closing ------------------------------------------------------------------ */

/* What is recorded, where, and what the trace says about the model.
 *
 * Strings are UTF-8 and copied by moetrace_open; NULL means unknown. A string longer than its field
 * in abi.h is cut between characters. */
typedef struct moetrace_options {
  /* sizeof(moetrace_options) as the caller was compiled. A caller with fewer fields gets the
   * defaults of the others. A caller with more fields is refused if it sets one of them. */
  size_t size;

  /* Where the ring lies. NULL or "": MOETRACE_DIR, else /run/moetrace if it is writable, else
   * /dev/shm. */
  const char* directory;
  /* 1 to 64 of [A-Za-z0-9_-]. NULL: MOETRACE_SESSION, else "default". */
  const char* session;
  /* Size of the route ring in MiB, above 0 and at most 1048576; rounded up to a power of two of
   * slots. A size that does not fit is an error. 0: MOETRACE_RING_MB, else what largest_step asks
   * for, else 64. These last two are less, down to 4, if the segment took more than half of the
   * free space. */
  double ring_mb;

  /* The model; required. All layers count, dense ones too: 1 to 256. */
  uint32_t num_layers;
  /* Ids are below it: routed experts of a layer, plus zero-computation experts; 1 to 65535. Where
   * layers differ: the largest. */
  uint32_t num_experts;
  /* Experts per row and layer: 1 to 32. Where layers differ: the largest. */
  uint32_t top_k;
  /* The layers that call the hook in every pass. NULL: all. */
  const moetrace_layer_mask* moe_layers;

  /* Layers to record: "0,5-7" or "all". NULL: MOETRACE_LAYERS, else VLLM_LOG_MOE_LAYER (one
   * layer), else all. */
  const char* layers;
  /* 1: record every step; n: every nth, at most 4294967295; 0: only count. Negative:
   * MOETRACE_SAMPLE, else 1. */
  int64_t sample_every;

  /* The fields from here on only describe the run to a reader of the trace. */
  const char* model_id;
  const char* engine;
  const char* engine_version;
  const char* vllm_version;
  const char* torch_version;
  /* "cpu" or "cuda". */
  const char* device;
  /* Non-zero: `seed` is known. */
  int has_seed;
  int64_t seed;
  /* "softmax" or "sigmoid". NULL: the router is not described. */
  const char* router_score;
  /* Non-zero: the weights of a row are scaled to a sum of 1. */
  int router_renormalized;
  /* Factor on the weights; finite. Default 1. */
  double router_scaling;
  uint32_t rank, world_size, tp_rank, dp_rank, pp_rank, ep_rank;

  /* Who writes the ring. -1 (default): a CPU thread, through moetrace_record. 0 and up: the kernels
   * of this GPU, through moetrace_record_cuda_deferred; set `device` to "cuda" as well. */
  int32_t cuda_device;

  /* Non-zero: experts are chosen by score + bias, and the weights are of the scores alone. */
  int router_biased;
  /* Experts are chosen within the best router_topk_groups of router_groups groups. 0: among all. */
  uint32_t router_groups, router_topk_groups;
  /* What a reader must know, a line each, such as "layer 3 is not recorded: it has no hook". At
   * most 1023 bytes are kept. */
  const char* notes;

  /* Names the engine that this process belongs to: the same text in all its ranks. NULL:
   * MOETRACE_ENGINE_ID, else unknown. */
  const char* engine_id;
  /* What is known of each layer: num_layers entries of abi.h, zeros where nothing is. NULL: all
   * layers have num_experts and top_k, and nothing else is known of them. Copied by moetrace_open,
   * which refuses entries that ABI.md does not allow. An entry's top_k and number of ids decide
   * what the hook reads and records of its layer; the other values only describe it. */
  const moetrace_layer_entry* layer_table;

  /* The most rows that a step can have, such as the most tokens that an engine's scheduler puts
   * into one. Unless ring_mb or MOETRACE_RING_MB sets a size, the ring gets room for four such
   * steps in all recorded layers, rounded up to a power of two, and at least 4 MiB. 0: unknown. */
  uint64_t largest_step;
} moetrace_options;

/* Sets every field to its default. Call it first on every options struct, with
 * size = sizeof(moetrace_options). */
MOETRACE_API void moetrace_options_init(moetrace_options* options, size_t size);

/* 1 if MOETRACE is "1", "yes", "true" or "on" in any case. 0 if it is unset, "", "0", "no", "false"
 * or "off". Any other value gives 0 and, once a process, one line on stderr. */
MOETRACE_API int moetrace_enabled(void);

/* Creates the segment and returns its producer. Any thread may call it.
 *
 * Returns NULL on failure; `error` then holds one line without a newline. Print the line and run on
 * untraced. On success `error` is empty, or holds a warning to print: some of the layers have no
 * experts, the ring got another size than requested, or MOETRACE_GROUP could not be applied.
 *
 * `error` has room for `error_bytes` bytes; a longer line is cut. It may be NULL. */
MOETRACE_API moetrace_producer* moetrace_open(const moetrace_options* options, char* error,
                                              size_t error_bytes);

/* Ends the trace and frees the producer; do not use it afterwards. The collector drains what is
 * left and removes the segment. */
MOETRACE_API void moetrace_close(moetrace_producer* producer);

/* ---- requests and passes ------------------------------------------------------------------ */

/* Announces a request and returns its number for spans. Numbers start at 0 and are never reused; a
 * NULL producer returns 0.
 *
 * `id`: copied; at most 255 bytes are kept; NULL counts as "". Pass MOETRACE_UNKNOWN_TOKENS for a
 * token count that you don't know. */
MOETRACE_API uint64_t moetrace_request_begin(moetrace_producer* producer, const char* id,
                                             uint32_t prompt_tokens, uint32_t cached_tokens);

/* Ends a request. `status`: copied; at most 31 bytes are kept, such as "stop", "length" or
 * "cancelled". A number that is not live is ignored. */
MOETRACE_API void moetrace_request_end(moetrace_producer* producer, uint64_t request,
                                       uint32_t generated_tokens, const char* status);

/* Announces the next pass, whose routing will lie in host memory.
 *
 * `rows`: its real rows, without padding. `spans`: which tokens they are; disjoint, within
 * [0, rows), each of a live request. A row without a span belongs to no request. `spans` may be
 * NULL. With rows = 0 nothing is announced, and the hook is disarmed.
 *
 * Returns 1 if this pass is recorded. Returns 0 if it is only counted, if tracing is switched off,
 * or if a GPU writes the ring. */
MOETRACE_API int moetrace_step_begin(moetrace_producer* producer, uint32_t rows,
                                     const moetrace_span* spans, size_t span_count);

/* Disarms the hook: call it when the announced pass has failed, or before a pass that must leave
 * nothing. The same as announcing 0 rows. */
MOETRACE_API void moetrace_step_abort(moetrace_producer* producer);

/* Records one layer's routing from host memory.
 *
 * `ids` and `weights`: [rows, k], contiguous, k being top_k or that of the layer's entry in
 * options.layer_table; not needed after the call. `weights` may be NULL: unknown. `rows` may
 * include padding; only the announced rows are recorded. An id outside [0, num_experts), or outside
 * the range that the layer's entry gives, is recorded as "no expert" and not counted. An unknown
 * id_type records nothing; an unknown weight_type records unknown weights.
 *
 * Record the layers of a pass in ascending order. A layer that is not selected, or not above the
 * last one recorded, is ignored. Does nothing if a GPU writes the ring. */
MOETRACE_API void moetrace_record(moetrace_producer* producer, uint32_t layer, const void* ids,
                                  moetrace_type id_type, const void* weights,
                                  moetrace_type weight_type, uint32_t rows);

/* clang-format off */
/* ---- routing in a GPU's memory ------------------------------------------------------------
 * For a producer that was opened with a cuda_device >= 0. On any other producer these calls do
 * nothing; and on such a producer moetrace_step_begin, moetrace_step_abort and moetrace_record do
 * nothing. Linking needs no libcudart: the library brings its own.
 *
 * The way to record is moetrace_record_cuda_deferred in each layer and one moetrace_join:
 *
 *     moetrace_step_begin_cuda(p, stream, rows, spans, span_count);  before the pass or the replay
 *     in each MoE layer:
 *       router kernel, which writes this layer's ids and weights
 *       moetrace_record_cuda_deferred(p, stream, layer, ids, MOETRACE_INT32,
 *                                     weights, MOETRACE_FLOAT32, padded_rows);
 *       expert kernels
 *     moetrace_join(p, stream);                                      at the end of the pass
 *
 * One kernel then records all layers of the pass. Variations of the same calls:
 *
 * - Layers that share one pair of buffers: call moetrace_join in each layer, before its buffers are
 *   written again. That costs one kernel a layer, in the stream's own time.
 * - CUDA graphs: capture everything but moetrace_step_begin_cuda, and announce before each replay.
 *   What changes from step to step lies in device memory. Full and piecewise graphs both work.
 * - Graphs without the hook, if you know where they leave the ids and weights of every layer: first
 *   enqueue the pass and the copy of its tokens to the host. Then announce, record and join, before
 *   the next pass, on the same stream. Neither host nor GPU waits for the hook.
 *
 * Contract:
 *
 * - Keep ids and weights unchanged, and do not return them to a stream-ordered allocator, before
 *   moetrace_join is enqueued. After it, work in the same stream is ordered after the hook.
 * - Record all layers of a pass on one stream, either all eager or all captured (piecewise capture
 *   counts as captured). Other layers are dropped, and so is a pass that is not joined before the
 *   next announcement.
 * - Run one pass at a time. Passes that overlap on two streams need two producers.
 * - A capture that ends before its join fails with cudaErrorStreamCaptureUnjoined. */
/* clang-format on */

/* cudaStream_t or CUstream. */
typedef struct CUstream_st* moetrace_cuda_stream;

/* Announces the pass that is enqueued on `stream` next, as moetrace_step_begin does. Launches a
 * kernel of one thread. Returns 0 and does nothing while the stream is being captured, and after a
 * failure (moetrace_failure). */
MOETRACE_API int moetrace_step_begin_cuda(moetrace_producer* producer, moetrace_cuda_stream stream,
                                          uint32_t rows, const moetrace_span* spans,
                                          size_t span_count);

/* As moetrace_step_abort, in the order of `stream`. Does nothing while it is being captured. */
MOETRACE_API void moetrace_step_abort_cuda(moetrace_producer* producer,
                                           moetrace_cuda_stream stream);

/* Records one layer's routing from device memory, at the next moetrace_join.
 *
 * `ids` and `weights`: as for moetrace_record, in device memory, aligned to their types. `rows`:
 * rows of the tensors, padding included; only the announced rows are recorded.
 *
 * Nothing is launched here, with two exceptions. Under capture the last MoE layer of the pass (the
 * last of options.moe_layers) launches the kernel on a branch that forks from `stream` here. And an
 * eager layer of more than 1023 rows is launched at once, on such a branch. One kernel records up
 * to 64 consecutive layers of the same types, rows, top-k and number of ids; a layer of more than
 * 1023 rows gets a kernel of its own. */
MOETRACE_API void moetrace_record_cuda_deferred(moetrace_producer* producer,
                                                moetrace_cuda_stream stream, uint32_t layer,
                                                const void* ids, moetrace_type id_type,
                                                const void* weights, moetrace_type weight_type,
                                                uint32_t rows);

/* Launches what has been deferred on `stream`, and makes the stream wait for every branch since the
 * last join. Without either it does nothing. */
MOETRACE_API void moetrace_join(moetrace_producer* producer, moetrace_cuda_stream stream);

/* One line that says which CUDA error has turned the GPU's hook off; NULL while it works. Print it
 * once. The text lives as long as the producer. */
MOETRACE_API const char* moetrace_failure(const moetrace_producer* producer);

/* Deprecated: use moetrace_record_cuda_deferred, with a moetrace_join in each layer if layers share
 * buffers. This call launches a kernel for each layer, on a branch that forks from `stream` here.
 * It takes the same arguments, and needs a moetrace_join once the layer's expert kernels are
 * enqueued. */
MOETRACE_API void moetrace_record_cuda(moetrace_producer* producer, moetrace_cuda_stream stream,
                                       uint32_t layer, const void* ids, moetrace_type id_type,
                                       const void* weights, moetrace_type weight_type,
                                       uint32_t rows);

/* Deprecated: use moetrace_record_cuda_deferred followed by moetrace_join, which record the same.
 * This call launches a kernel for each layer in the stream itself and needs no join. */
MOETRACE_API void moetrace_record_cuda_in_line(moetrace_producer* producer,
                                               moetrace_cuda_stream stream, uint32_t layer,
                                               const void* ids, moetrace_type id_type,
                                               const void* weights, moetrace_type weight_type,
                                               uint32_t rows);

/* ---- for adapters and an engine's own log -------------------------------------------------- */

/* Counters so far; on a GPU, as of the end of its last finished step. */
typedef struct moetrace_totals {
  /* sizeof(moetrace_totals) as the caller was compiled; set it before the call. */
  size_t size;
  /* Announced steps. */
  uint64_t steps;
  /* Rows x selected layers of the announced recording steps. */
  uint64_t attempted;
  /* Records written into the ring. */
  uint64_t recorded;
  /* Records without room in the ring, those of lost announcements included. */
  uint64_t dropped;
  /* Nanoseconds that the engine's threads spent in announcements, moetrace_add_cost included. */
  uint64_t announce_ns;
  /* The same for calls of the hook. In host memory this is an estimate: few calls are timed. */
  uint64_t hook_ns;
} moetrace_totals;

/* Fills in `totals`. Fields beyond totals->size stay untouched; fields that this library does not
 * know become 0, and so does every field for a NULL producer. */
MOETRACE_API void moetrace_get_totals(const moetrace_producer* producer, moetrace_totals* totals);

/* Adds nanoseconds that an adapter spends outside these calls, such as on preparing spans or
 * wrapping tensors, to what the library measures inside them. The trace's end line and
 * `moetrace status` show the sums. */
MOETRACE_API void moetrace_add_cost(moetrace_producer* producer, uint64_t announce_ns,
                                    uint64_t hook_ns);

/* Announces a pass from columns, for adapters whose engine keeps its batch so: it does what
 * moetrace_step_begin_cuda does, or moetrace_step_begin on a producer without a cuda_device.
 *
 * Request n is requests[n]; it has the rows [starts[n], starts[n + 1]), at positions firsts[n] on.
 * `starts` has count + 1 entries; starts[0] is 0, and the pass has starts[count] rows. `requests`
 * NULL: the rows belong to no request. `firsts` NULL: the positions are unknown.
 *
 * `stream` must not be under capture; this call does not check it, because asking CUDA takes 4 us
 * with cold caches. `began_ns`: CLOCK_MONOTONIC when the adapter began to prepare the call; its
 * cost counts from then on. Returns as moetrace_step_begin. */
MOETRACE_API int moetrace_step_begin_columns(moetrace_producer* producer,
                                             moetrace_cuda_stream stream, uint32_t count,
                                             const uint64_t* requests, const int32_t* starts,
                                             const int32_t* firsts, int64_t began_ns);

/* The trace's UUID as 36 characters of text; "" for NULL. Lives as long as the producer. */
MOETRACE_API const char* moetrace_trace_id(const moetrace_producer* producer);

/* One line for the engine's log that says what is recorded and where: model, layers, sampling,
 * session and ring, the ring's size, where it comes from and what it holds, as of the start. "" for
 * NULL. Lives as long as the producer. */
MOETRACE_API const char* moetrace_summary(const moetrace_producer* producer);

/* If no collector serves the session: one line that says so, how many records the ring keeps, and
 * how to start a collector. Else NULL. Call it once after moetrace_open, not on the hot path: it
 * lists the ring directory. The text lives until the next call. */
MOETRACE_API const char* moetrace_no_collector(moetrace_producer* producer);

#ifdef __cplusplus
}
#endif

#endif
