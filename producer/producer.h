/* moetrace hook, C API: what an engine calls to have its routing recorded.
 *
 * The calls never wait, take no lock, make no system call once the ring is open (the clock is read
 * through the vDSO), and can't fail: what does not fit is dropped and counted. All calls on one
 * producer come from one thread at a time. A NULL producer is valid everywhere and does nothing, so
 * an engine needs no `if`. In a forked child every call does nothing.
 *
 * A pass is announced before it runs; only rows of an announced pass are recorded:
 *
 *     char why[256];
 *     moetrace_options options;
 *     moetrace_options_init(&options, sizeof options);
 *     options.model_id = "my/model";
 *     options.num_layers = 24;
 *     options.num_experts = 60;
 *     options.top_k = 4;
 *     moetrace_producer* p =
 *         moetrace_enabled() ? moetrace_open(&options, why, sizeof why) : NULL;
 *
 *     uint64_t r = moetrace_request_begin(p, "r0", prompt_tokens, 0);
 *     moetrace_span span = {.request = r, .rows = prompt_tokens};  from position 0, in row 0
 *     moetrace_step_begin(p, prompt_tokens, &span, 1);
 *     in each layer, behind the router:
 *       moetrace_record(p, layer, ids, MOETRACE_INT64, weights, MOETRACE_FLOAT32, rows);
 *     moetrace_request_end(p, r, generated, "length");
 *     moetrace_close(p);
 */
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

typedef enum moetrace_type {
  MOETRACE_INT16 = 1,
  MOETRACE_INT32 = 2,
  MOETRACE_INT64 = 3,
  MOETRACE_UINT32 = 4,
  MOETRACE_FLOAT32 = 16,
  MOETRACE_BFLOAT16 = 17,
  MOETRACE_FLOAT16 = 18
} moetrace_type;

/* Everything that the trace's first line says. Strings are UTF-8, copied, cut to the ABI's width;
 * NULL: unknown. */
typedef struct moetrace_options {
  size_t size; /* sizeof(moetrace_options) as the caller was compiled: fields behind it keep their
                  defaults */

  /* Where. NULL or 0: from the environment, else the default. */
  const char* directory; /* MOETRACE_DIR, else /run/moetrace, else /dev/shm */
  const char* session;   /* MOETRACE_SESSION, else "default" */
  double ring_mb; /* MOETRACE_RING_MB: size of the route ring in MiB, rounded up to a power of two
                     of slots; else 64, or less where that is more than half of what is free */

  /* The model. Required. */
  uint32_t num_layers;                   /* 1 to 256: all layers of the model, also dense ones */
  uint32_t num_experts;                  /* 1 to 65535: routed experts of a layer */
  uint32_t top_k;                        /* 1 to 32 */
  const moetrace_layer_mask* moe_layers; /* layers that call the hook in every pass; NULL: all */

  /* What is recorded. */
  const char* layers; /* "0,5-7", "all"; NULL: MOETRACE_LAYERS, else VLLM_LOG_MOE_LAYER (one layer),
                         else all */
  int64_t sample_every; /* 1: every step, n: every n-th, 0: count only; negative: MOETRACE_SAMPLE,
                           else 1 */

  /* For the reader of the trace. */
  const char* model_id;
  const char* engine;
  const char* engine_version;
  const char* vllm_version;
  const char* torch_version;
  const char* device; /* "cpu", "cuda" */
  int has_seed;
  int64_t seed;
  const char* router_score; /* "softmax", "sigmoid"; NULL: the router is not described */
  int router_renormalized;
  double router_scaling;
  uint32_t rank, world_size, tp_rank, dp_rank, pp_rank, ep_rank;

  /* Who writes the ring. -1 (default): a CPU thread, by moetrace_record. 0 and up: the kernels of
   * this GPU, by moetrace_record_cuda; `device` should then say "cuda". */
  int32_t cuda_device;

  /* More for the reader of the trace. */
  int router_biased; /* experts are chosen by score + bias; weights are of the scores alone */
  uint32_t router_groups, router_topk_groups; /* chosen within the best router_topk_groups of
                                                 router_groups groups; 0: of all experts */
  const char* notes; /* what a reader must know, a line each, such as "layer 3 is not recorded: …";
                        at most 1023 bytes are kept */
} moetrace_options;

/* Fills in the defaults. Always the first call on an options struct. */
MOETRACE_API void moetrace_options_init(moetrace_options* options, size_t size);

/* 1 if MOETRACE is "1", "yes", "true" or "on", in any case; 0 if it is unset, "", "0", "no",
 * "false" or "off". Anything else is 0, too, with one line on stderr a process. */
MOETRACE_API int moetrace_enabled(void);

/* Creates the segment. NULL if that fails; `error` (may be NULL) then holds one line without a
 * newline. The engine should print it and run on untraced. Else `error` is empty, or a line that
 * the engine should print as a warning: layers without experts were asked for, the ring has another
 * size than was asked for or is usual, or MOETRACE_GROUP can't have it. */
MOETRACE_API moetrace_producer* moetrace_open(const moetrace_options* options, char* error,
                                              size_t error_bytes);

/* A request enters the batch. `id`: at most 255 bytes are kept; not needed after the call. Token
 * counts may be MOETRACE_UNKNOWN_TOKENS. Returns its number, to be used in spans; numbers are never
 * reused. */
MOETRACE_API uint64_t moetrace_request_begin(moetrace_producer* producer, const char* id,
                                             uint32_t prompt_tokens, uint32_t cached_tokens);
/* `status`: at most 31 bytes, such as "stop", "length", "cancelled". A number that isn't live is
 * ignored. */
MOETRACE_API void moetrace_request_end(moetrace_producer* producer, uint64_t request,
                                       uint32_t generated_tokens, const char* status);

/* Announces the next pass: `rows` real rows (padding excluded) and which tokens they are. Spans are
 * disjoint, within [0, rows), and name live requests; a row without a span gets a null request.
 * Rows and spans of 0 announce nothing: the hook is disarmed. Returns 1 if this pass records, 0 if
 * it only counts or is not observed at all. */
MOETRACE_API int moetrace_step_begin(moetrace_producer* producer, uint32_t rows,
                                     const moetrace_span* spans, size_t span_count);
/* The announced pass failed, or an unannounced one follows that must leave nothing. The same as
 * announcing nothing. */
MOETRACE_API void moetrace_step_abort(moetrace_producer* producer);

/* One layer's routing, in host memory: ids and weights are [rows, top_k], contiguous, and are not
 * needed after the call. Layers of a pass come in ascending order; a layer that was seen already,
 * or that isn't selected, is ignored, and so are rows past the announced ones. `weights` NULL:
 * unknown. An id outside [0, num_experts) is recorded as none. */
MOETRACE_API void moetrace_record(moetrace_producer* producer, uint32_t layer, const void* ids,
                                  moetrace_type id_type, const void* weights,
                                  moetrace_type weight_type, uint32_t rows);

/* ---- routing in a GPU's memory ---------------------------------------------------------------
 * For a producer that was opened with a cuda_device; for any other these do nothing, and for this
 * one moetrace_step_begin, moetrace_step_abort and moetrace_record do nothing. No libcudart is
 * needed to link: the hook has its own, and streams are the driver's.
 *
 * A kernel writes the records straight into the ring, on a branch beside the engine's stream:
 *
 *     moetrace_step_begin_cuda(p, stream, rows, spans, span_count);  before the pass or the replay
 *     in each layer:   router kernel: ids and weights
 *                      moetrace_record_cuda(p, stream, layer, ids, MOETRACE_INT32, weights,
 *                                           MOETRACE_FLOAT32, padded_rows);
 *                      expert kernels
 *                      moetrace_join(p, stream);
 *
 * or, where every layer has ids and weights of its own, which costs next to nothing:
 *
 *     in each layer:   router kernel: ids and weights of this layer
 *                      moetrace_record_cuda_deferred(...);
 *                      expert kernels
 *     at the end:      moetrace_join(p, stream);
 *
 * All but the first may be captured: what changes from step to step lies in device memory, where
 * the announcement puts it. Full, piecewise and no capture are the same to it.
 *
 * An engine that knows, outside its graphs, where they leave the ids and weights of every layer
 * need not capture the hook at all. It may do everything behind the pass, once what the host waits
 * for has been enqueued, so that neither host nor GPU has to wait for the hook:
 *
 *     the pass or the replay, and the copy of its tokens to the host
 *     moetrace_step_begin_cuda(p, stream, rows, spans, span_count);
 *     for each layer:  moetrace_record_cuda_deferred(...);
 *     moetrace_join(p, stream);
 *     the next pass, on the same stream
 *
 * How long ids and weights live: until moetrace_join has been called, they must neither be freed
 * into a stream-ordered allocator nor written again; after that, whatever the stream does comes
 * behind the hook. One join closes all branches since the last one. The next announcement joins
 * what was not. A capture that ends before the join fails with cudaErrorStreamCaptureUnjoined.
 *
 * One pass at a time: passes that overlap on two streams need two producers. */
typedef struct CUstream_st* moetrace_cuda_stream; /* cudaStream_t, CUstream */

/* As moetrace_step_begin, for the pass that is enqueued on `stream` next; launches one kernel of
 * one thread. Returns 0 and does nothing while the stream is being captured. */
MOETRACE_API int moetrace_step_begin_cuda(moetrace_producer* producer, moetrace_cuda_stream stream,
                                          uint32_t rows, const moetrace_span* spans,
                                          size_t span_count);
MOETRACE_API void moetrace_step_abort_cuda(moetrace_producer* producer,
                                           moetrace_cuda_stream stream);

/* As moetrace_record, with ids and weights in device memory, aligned to their types; reads them on
 * a branch that forks from `stream` here. `rows`: of the tensors, padding included; only announced
 * rows are recorded. */
MOETRACE_API void moetrace_record_cuda(moetrace_producer* producer, moetrace_cuda_stream stream,
                                       uint32_t layer, const void* ids, moetrace_type id_type,
                                       const void* weights, moetrace_type weight_type,
                                       uint32_t rows);
/* Joins the branches of every moetrace_record_cuda and moetrace_record_cuda_deferred since the last
 * join, to be called when the layer's expert kernels have been enqueued, or later. Nothing to join:
 * nothing happens. */
MOETRACE_API void moetrace_join(moetrace_producer* producer, moetrace_cuda_stream stream);
/* The same for engines that keep every layer's ids and weights until the end of the pass, which is
 * the cheapest: nothing is launched here, and one kernel records all layers of the pass (up to 64
 * of one shape; one layer, of more than 1023 rows). It runs in the stream, at the join, of which
 * the pass needs one in any case; or, under capture, already on a branch that forks from `stream`
 * where the last of the MoE layers calls (the last of options.moe_layers). All layers of a pass are
 * told of on one stream, in one mode: eager, or captured, be it piece by piece; others are dropped,
 * and so is a pass that the next announcement overtakes. Eagerly, more than 1023 rows are not
 * deferred but recorded as by moetrace_record_cuda. */
MOETRACE_API void moetrace_record_cuda_deferred(moetrace_producer* producer,
                                                moetrace_cuda_stream stream, uint32_t layer,
                                                const void* ids, moetrace_type id_type,
                                                const void* weights, moetrace_type weight_type,
                                                uint32_t rows);
/* The same in the stream itself, without a branch: slower, but needs no join, and ids and weights
 * need live no longer than for any other kernel of the stream. */
MOETRACE_API void moetrace_record_cuda_in_line(moetrace_producer* producer,
                                               moetrace_cuda_stream stream, uint32_t layer,
                                               const void* ids, moetrace_type id_type,
                                               const void* weights, moetrace_type weight_type,
                                               uint32_t rows);

/* One line that says why the GPU's hook has turned itself off (an error of CUDA's); NULL: it has
 * not. The engine should print it once. Lives as long as the producer. */
MOETRACE_API const char* moetrace_failure(const moetrace_producer* producer);

/* Where the counters stand, for an engine's own log. On a GPU: by the end of the last step that is
 * over. */
typedef struct moetrace_totals {
  size_t size;
  uint64_t steps;
  uint64_t attempted;
  uint64_t recorded; /* records in the ring so far */
  uint64_t dropped;
  /* Nanoseconds of the engine's threads so far: in announcements, and in calls of the hook (in host
   * memory an estimate: few of them are timed). What moetrace_add_cost reported is included. */
  uint64_t announce_ns;
  uint64_t hook_ns;
} moetrace_totals;
MOETRACE_API void moetrace_get_totals(const moetrace_producer* producer, moetrace_totals* totals);

/* Adds what an adapter spends around these calls (in preparing spans, in wrapping tensors) to what
 * the library measures inside them, for the trace's end line and `moetrace status`. Do not count a
 * call's own time again. */
MOETRACE_API void moetrace_add_cost(moetrace_producer* producer, uint64_t announce_ns,
                                    uint64_t hook_ns);

/* An announcement for adapters of engines that have their batch in columns:
 * moetrace_step_begin_cuda, or moetrace_step_begin without a cuda_device. Request n, `requests[n]`,
 * has the rows [starts[n], starts[n + 1]), from position firsts[n] on; starts[0] is 0, and the pass
 * has starts[count] rows. `requests` NULL: the rows belong to no request; `firsts` NULL: their
 * positions are not known. `stream` must not be
 * under capture (nobody looks: asking takes 4 us with cold caches). `began_ns`: when the adapter
 * began with it, CLOCK_MONOTONIC; from then on its cost counts. */
MOETRACE_API int moetrace_step_begin_columns(moetrace_producer* producer,
                                             moetrace_cuda_stream stream, uint32_t count,
                                             const uint64_t* requests, const int32_t* starts,
                                             const int32_t* firsts, int64_t began_ns);

/* The trace's UUID as text, 36 characters; "" for NULL. Lives as long as the producer. */
MOETRACE_API const char* moetrace_trace_id(const moetrace_producer* producer);

/* One line for the engine's log that says what is recorded, and where: the model, its layers, one
 * pass in how many if not all, the session and the ring, as of the start. "" for NULL. Lives as
 * long as the producer. */
MOETRACE_API const char* moetrace_summary(const moetrace_producer* producer);

/* One line that says that no collector serves the session as yet, how much the ring keeps until one
 * does, and how to start it; NULL: one does, or may. For an engine's log, once the ring is open:
 * this call lists the ring directory. Lives until the next one. */
MOETRACE_API const char* moetrace_no_collector(moetrace_producer* producer);

/* Ends the trace; the collector drains what is left and removes the segment. `producer` is invalid
 * afterwards. */
MOETRACE_API void moetrace_close(moetrace_producer* producer);

#ifdef __cplusplus
}
#endif

#endif
