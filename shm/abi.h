/* moetrace segment ABI, version 1.4. ABI.md is the reference text.
 *
 * Promise
 *   Within one major version a field never moves, shrinks or changes its meaning. Writers store 0
 *   in reserved bytes, and readers ignore them; a minor version may give them a meaning. A minor
 *   version may also add event kinds; readers skip kinds that they don't know. A field with (1.1),
 *   (1.2), (1.3) or (1.4) in its comment exists since that minor version.
 *
 * Glossary
 *   segment    the two files of one producing process: .ring and .ctl
 *   producer   the process that runs the model; it writes .ring
 *   collector  the process that drains the segment; it writes .ctl, and maps .ring read-only
 *   step       one announced forward pass; steps are numbered 0, 1, 2, ...
 *   row        one token of a step's batch
 *   span       consecutive rows of a step that belong to one request
 *   route      which experts one row got in one layer; one record in the route ring
 *   slot       one place of a ring; slot numbers count from 0 and never repeat;
 *              slot n lies at index n mod ring size
 *   claimed    the number of the next slot that a writer takes
 *   consumed   the reader needs no slot below this number any more
 *   published  a GPU has written every route slot below this number completely
 *   group      consecutive event slots that form one event
 *   line       64 aligned bytes; each line of shared memory has one writer
 *   id         an expert's number in its layer: routed experts first, then zero-computation experts
 *
 * The files
 *   .ring   written by the producer       .ctl   4096 bytes
 *   +---------------------+ 0             +---------------------+ 0
 *   | ring header         |               | magic, trace id     |      producer, once
 *   +---------------------+ state_offset  +---------------------+ 64
 *   | state               |               | route_consumed      |      collector
 *   +---------------------+ request_...   +---------------------+ 128
 *   | request table       |               | event_consumed      |      collector
 *   +---------------------+ event_...     +---------------------+ 192
 *   | event ring          |               | generation, pid     |      collector
 *   +---------------------+ route_...     +---------------------+ 256
 *   | route ring          |               | ledger 0, ledger 1  |      collector
 *   +---------------------+ counts_...    +---------------------+ 384
 *   | counts              |               | control words       |      command line
 *   +---------------------+ layer_...     +---------------------+ 448
 *   | layer table         |               | ring use            |      collector
 *   +---------------------+ ring_bytes    +---------------------+ 512  reserved, to 4096
 *
 * A slot's life; only the named party takes an edge
 *
 *            claim                    commit            consume
 *     free ----------> being written ---------> valid ----------> free (next lap)
 *          writer,                    writer           reader
 *          while slot - consumed < ring size
 *
 *   claim    after an acquire load of the consumed position
 *   commit   payload first, then one release store of the 8-byte commit word
 *   valid    an acquire load of the commit word finds (slot + 1) mod 2^32 in its low half
 *   consume  a release store of the consumed position, after the last access to the slot
 *
 *   A writer that dies before the commit leaves a hole. A GPU commits no single slot: it writes
 *   whole records and then publishes its position.
 *
 * Plain C11 that also compiles as C++20 and CUDA. All integers are little-endian and have explicit
 * sizes; no access wider than 8 bytes needs to be atomic. abi_layout.h asserts every offset. */
#ifndef MOETRACE_SHM_ABI_H
#define MOETRACE_SHM_ABI_H

#include <stddef.h>
#include <stdint.h>

#define MOETRACE_ABI_MAJOR 1
#define MOETRACE_ABI_MINOR 4

/* 8 bytes each, without a terminator. */
#define MOETRACE_RING_MAGIC "MOETRACE"
#define MOETRACE_CTL_MAGIC "MOETRCTL"
/* As the producer's machine stores it. */
#define MOETRACE_BYTE_ORDER 0x01020304u

/* 4 words of a layer mask * 64 bits. */
#define MOETRACE_MAX_LAYERS 256u
/* 4 units of a record * 8 experts. */
#define MOETRACE_MAX_TOP_K 32u
/* Ids are 0 to 0xFFFE; 0xFFFF stands for "none". */
#define MOETRACE_MAX_EXPERTS 65535u
#define MOETRACE_NO_EXPERT 0xFFFFu
/* 2^32 / 2: slots of two neighbouring laps differ in the low 32 bits of seq. */
#define MOETRACE_MAX_ROUTE_SLOTS (1ull << 31)
#define MOETRACE_MAX_EVENT_SLOTS (1ull << 31)
/* The range of moetrace_event_commit.slots, 16 bits. */
#define MOETRACE_MAX_GROUP_SLOTS 65535u
/* Bytes of an id without a terminator: the 256 of moetrace_request_entry.id - 1. */
#define MOETRACE_MAX_REQUEST_ID 255u
/* In moetrace_span.first_position: token_idx is null in the trace (1.2). */
#define MOETRACE_UNKNOWN_POSITION 0xFFFFFFFFFFFFFFFFu
/* In prompt_tokens, cached_tokens and generated_tokens: null in the trace. */
#define MOETRACE_UNKNOWN_TOKENS 0xFFFFFFFFu

/* The bytes of .ctl on which the open-file-description locks lie. The control lock is held while a
 * process changes the control words. */
#define MOETRACE_LOCK_PRODUCER 0
#define MOETRACE_LOCK_COLLECTOR 1
#define MOETRACE_LOCK_CONTROL 2

/* Bit l % 64 of words[l / 64] stands for model layer l. */
typedef struct moetrace_layer_mask {
  /* 4 * 64 = 256 layers */
  uint64_t words[4];
} moetrace_layer_mask;

enum moetrace_claimer { MOETRACE_CLAIMER_CPU = 0, MOETRACE_CLAIMER_GPU = 1 };

enum moetrace_header_flags {
  MOETRACE_HAS_SEED = 1u << 0,
  /* Top-k weights are divided by their sum. */
  MOETRACE_ROUTER_RENORMALIZED = 1u << 1,
  /* The router fields are valid. */
  MOETRACE_ROUTER_KNOWN = 1u << 2,
  /* Experts are picked by score + bias; weights are the scores (1.2). */
  MOETRACE_ROUTER_BIASED = 1u << 3,
  /* A replayed log: num_layers is a lower bound, as large as the ring needs (1.2). */
  MOETRACE_LAYERS_UNKNOWN = 1u << 4,
  /* A replayed log: the fields rank to ep_rank are not valid (1.2). */
  MOETRACE_RANKS_UNKNOWN = 1u << 5
};

/* Offset 0 of .ring. Written once, before the file gets its final name. Strings are UTF-8 and end
 * with a 0; an empty string means unknown. */
typedef struct moetrace_ring_header {
  char magic[8];
  uint16_t abi_major;
  uint16_t abi_minor;
  uint32_t byte_order;
  /* A UUID, in the order in which it is printed. */
  uint8_t trace_id[16];
  /* The sizes of both files. */
  uint64_t ring_bytes;
  uint64_t ctl_bytes;
  uint32_t header_bytes;
  /* 64 * ceil(top_k / 8) */
  uint32_t route_stride;
  /* The largest of all layers; the layer table has that of each (1.3). */
  uint32_t top_k;
  uint32_t num_layers;
  /* Ids are below it, zero-computation experts included; the largest of all layers (1.3). */
  uint32_t num_experts;
  /* enum moetrace_claimer: who takes slots of the route ring. */
  uint32_t claimer;
  /* In bytes from the start of .ring. */
  uint64_t state_offset;
  uint64_t request_offset;
  uint64_t event_offset;
  uint64_t route_offset;
  uint64_t counts_offset;
  /* Powers of two. */
  uint64_t event_slots;
  uint64_t route_slots;
  uint32_t request_slots;
  /* enum moetrace_header_flags */
  uint32_t flags;
  int64_t seed;
  /* CLOCK_REALTIME and CLOCK_MONOTONIC, read together. */
  int64_t created_realtime_ns;
  int64_t created_monotonic_ns;
  /* The layers selected at the start. */
  moetrace_layer_mask layers_logged;
  /* The layers that call the hook. */
  moetrace_layer_mask moe_layers;
  double router_scaling;
  uint32_t producer_pid;
  /* At the start. 1: every step; n: every n-th step; 0: count only. */
  uint32_t sample_every;
  uint32_t rank;
  uint32_t world_size;
  uint32_t tp_rank;
  uint32_t dp_rank;
  uint32_t pp_rank;
  uint32_t ep_rank;
  uint8_t reserved0[56];
  char model_id[256];
  char engine[64];
  char engine_version[64];
  char vllm_version[64];
  char torch_version[64];
  char device[64];
  char host[256];
  /* "softmax" or "sigmoid" */
  char router_score[32];
  /* Experts are picked from the best router_topk_groups of router_groups groups; 0: from all
   * experts (1.2). */
  uint32_t router_groups;
  uint32_t router_topk_groups;
  /* What a reader of the trace must know: lines, separated by \n (1.2). */
  char notes[1024];
  /* The same for all processes that run one engine; "": unknown (1.3). */
  char engine_id[64];
  /* In bytes from the start of .ring, after the counts; 0: no layer table (1.3). */
  uint64_t layer_table_offset;
  /* 4096 - 2288 */
  uint8_t reserved1[1808];
} moetrace_ring_header;

enum moetrace_layer_flags {
  /* In each pair the second bit is the value; it is 0 where the first, KNOWN, is 0. */
  MOETRACE_LAYER_RENORMALIZED_KNOWN = 1u << 0,
  /* Top-k weights are divided by their sum. */
  MOETRACE_LAYER_RENORMALIZED = 1u << 1,
  MOETRACE_LAYER_BIASED_KNOWN = 1u << 2,
  /* Experts are picked by score + bias; weights are the scores. */
  MOETRACE_LAYER_BIASED = 1u << 3,
  MOETRACE_LAYER_TABLE_KNOWN = 1u << 4,
  /* Experts are looked up by the token's id instead of picked by a score. */
  MOETRACE_LAYER_TABLE = 1u << 5,
  /* The field `zero_experts` is valid. */
  MOETRACE_LAYER_ZERO_EXPERTS_KNOWN = 1u << 6,
  /* The field `scaling` is valid. */
  MOETRACE_LAYER_SCALING_KNOWN = 1u << 7,
  /* The fields `groups` and `topk_groups` are valid. */
  MOETRACE_LAYER_GROUPS_KNOWN = 1u << 8
};

/* At layer_table_offset: one entry for each of num_layers layers. Written once, before the file
 * gets its final name. An entry of zeros says nothing about its layer (1.3). */
typedef struct moetrace_layer_entry {
  /* Routed experts, ids from 0; 0: unknown. */
  uint32_t experts;
  /* Zero-computation experts, ids from `experts`. */
  uint32_t zero_experts;
  /* Experts of a row; 0: unknown, and records have the header's top_k. */
  uint32_t top_k;
  /* enum moetrace_layer_flags */
  uint32_t flags;
  /* Experts are picked from the best topk_groups of `groups` groups. 1 and 1: from all. */
  uint32_t groups;
  uint32_t topk_groups;
  /* Factor on the weights. */
  double scaling;
  /* "softmax", "sigmoid", ...; ends with a 0; "": unknown. */
  char score[24];
  uint8_t reserved[8];
} moetrace_layer_entry;

/* One line of .ring, written by the host part of the producer. Each word only grows; closed is 0,
 * then 1. */
typedef struct moetrace_host_counters {
  /* Rows x selected layers of all announced recording steps, event_lost included. */
  uint64_t attempted;
  /* The part of attempted whose announcement found no room in the event ring. */
  uint64_t event_lost;
  /* Announced steps, those that only count included. Also the number of the next step. */
  uint64_t steps;
  /* 1 once the producer has closed. */
  uint64_t closed;
  /* Event slots written so far. */
  uint64_t events_claimed;
  /* Time of the engine's threads in announcements (1.2). */
  uint64_t announce_ns;
  /* Time of the engine's threads in calls of the hook, estimated as ABI.md describes (1.2). */
  uint64_t hook_ns;
  uint64_t reserved;
} moetrace_host_counters;

/* The state of the route ring at the end of a step. Two snapshots alternate: write n goes to
 * snapshot n % 2, and stores `number` last. */
typedef struct moetrace_snapshot {
  /* 1, 2, 3, ...; 0: never written. */
  uint64_t number;
  /* Every step below this number is over. */
  uint64_t steps_done;
  /* Route slots claimed so far. */
  uint64_t claimed;
  /* Route records dropped so far because the ring was full. */
  uint64_t dropped;
  uint64_t reserved[4];
} moetrace_snapshot;

/* Guards the counts table. `version` is odd while the table is being written. */
typedef struct moetrace_counts_header {
  uint64_t version;
  /* The counts are exact as of all steps below this number. */
  uint64_t steps_done;
  uint64_t reserved[6];
} moetrace_counts_header;

/* The published position of a GPU (1.1); a CPU leaves it 0. Where a GPU claims the slots, only
 * route slots below it are valid. */
typedef struct moetrace_published {
  uint64_t routes;
  uint64_t reserved[7];
} moetrace_published;

/* At state_offset. Each line has one writer. */
typedef struct moetrace_state {
  moetrace_host_counters host;
  moetrace_snapshot snapshots[2];
  moetrace_counts_header counts;
  moetrace_published published;
  /* 4096 - 5 * 64 */
  uint8_t reserved[3776];
} moetrace_state;

/* At request_offset: the live requests, so that a collector that starts late can name them. The
 * producer reuses an entry only after the event that ended its request has been consumed. */
typedef struct moetrace_request_entry {
  /* The request's number + 1; 0: free, or being written. */
  uint64_t number_plus_1;
  /* The first slot of its request event. */
  uint64_t begin_event;
  /* The first slot of its request_end event; UINT64_MAX while the request lives. */
  uint64_t end_event;
  uint32_t prompt_tokens;
  uint32_t cached_tokens;
  uint32_t id_bytes;
  uint32_t reserved0;
  char id[256];
  /* 320 - 296 */
  uint8_t reserved1[24];
} moetrace_request_entry;

/* ---- route ring ------------------------------------------------------------------------------ */

/* The first 16 bytes of every route record. {seq, step} is the commit word: one naturally aligned
 * 8-byte store, which a CPU makes last. A GPU writes whole records, then publishes its position. */
typedef struct moetrace_route_head {
  /* The low 32 bits of the slot's number + 1. */
  uint32_t seq;
  /* The low 32 bits of the step's number. */
  uint32_t step;
  uint32_t row;
  uint16_t layer;
  /* 0 */
  uint16_t flags;
} moetrace_route_head;

/* The whole record for top_k <= 8. For larger top_k, with n = ceil(top_k / 8): stride 64n, 8n ids
 * from byte 16, 8n weights from byte 16 + 16n. */
typedef struct moetrace_route_record {
  moetrace_route_head head;
  /* Logical ids; MOETRACE_NO_EXPERT past the layer's top_k. */
  uint16_t expert[8];
  /* As the router gave them; NaN where the engine gives none; 0 past the layer's top_k. */
  float weight[8];
} moetrace_route_record;

/* ---- event ring ------------------------------------------------------------------------------ */

enum moetrace_event_kind {
  MOETRACE_EVENT_STEP = 1,
  /* Continues a step. */
  MOETRACE_EVENT_SPAN = 2,
  MOETRACE_EVENT_REQUEST = 3,
  /* Continues a request. */
  MOETRACE_EVENT_TEXT = 4,
  MOETRACE_EVENT_REQUEST_END = 5,
  MOETRACE_EVENT_CONTROL = 6,
  /* Reserved: no producer writes the kinds below yet, and readers skip them (1.3). */
  MOETRACE_EVENT_TOKENS = 7,
  /* Continues tokens. */
  MOETRACE_EVENT_TOKENS_MORE = 8,
  MOETRACE_EVENT_PLACEMENT = 9,
  /* Continues a placement. */
  MOETRACE_EVENT_PLACEMENT_MORE = 10
};

/* The first 8 bytes of every event slot, stored last, as one word. The head of a group is stored
 * after all its continuations, so a reader that goes in order sees the whole group or nothing. */
typedef struct moetrace_event_commit {
  /* The low 32 bits of the slot's number + 1. */
  uint32_t seq;
  /* enum moetrace_event_kind */
  uint8_t kind;
  uint8_t flags;
  /* Slots of the group; 0 in a continuation. */
  uint16_t slots;
} moetrace_event_commit;

typedef struct moetrace_step_event {
  moetrace_event_commit commit;
  uint64_t step;
  /* CLOCK_MONOTONIC - created_monotonic_ns */
  int64_t time_ns;
  uint32_t rows;
  uint32_t spans;
  /* The number of layers recorded in this step; 0: count only. */
  uint32_t layers;
  uint32_t reserved0;
  uint8_t reserved1[24];
} moetrace_step_event;

/* Rows [first_row, first_row + rows) of the pass are tokens of a request, at the positions from
 * first_position on. With MOETRACE_UNKNOWN_POSITION their positions are not known yet. */
typedef struct moetrace_span {
  uint64_t request;
  uint64_t first_position;
  uint32_t first_row;
  uint32_t rows;
} moetrace_span;

typedef struct moetrace_span_event {
  moetrace_event_commit commit;
  /* rows = 0 in the second if the number of spans is odd. */
  moetrace_span span[2];
  uint64_t reserved;
} moetrace_span_event;

typedef struct moetrace_request_event {
  moetrace_event_commit commit;
  /* The request's number; never reused. */
  uint64_t request;
  uint32_t prompt_tokens;
  uint32_t cached_tokens;
  uint32_t id_bytes;
  uint32_t reserved;
  /* The first 32 bytes; the rest follows in text slots. */
  char id[32];
} moetrace_request_event;

typedef struct moetrace_text_event {
  moetrace_event_commit commit;
  char text[56];
} moetrace_text_event;

typedef struct moetrace_request_end_event {
  moetrace_event_commit commit;
  uint64_t request;
  uint32_t generated_tokens;
  uint32_t reserved0;
  /* "stop", "length" or "cancelled"; ends with a 0. */
  char status[32];
  uint8_t reserved1[8];
} moetrace_request_end_event;

typedef struct moetrace_control_event {
  moetrace_event_commit commit;
  uint64_t from_step;
  uint32_t enabled;
  uint32_t sample_every;
  moetrace_layer_mask layers;
  uint8_t reserved[8];
} moetrace_control_event;

/* Reserved: no producer writes it yet (1.3). The vocabulary ids of a request's tokens at the
 * positions [first_position, first_position + tokens). */
typedef struct moetrace_tokens_event {
  moetrace_event_commit commit;
  uint64_t request;
  uint64_t first_position;
  uint32_t tokens;
  /* The first 9; the rest follows in continuations. */
  uint32_t id[9];
} moetrace_tokens_event;

typedef struct moetrace_tokens_more_event {
  moetrace_event_commit commit;
  uint32_t id[14];
} moetrace_tokens_more_event;

/* What one physical slot of a layer holds. */
typedef struct moetrace_placed_expert {
  /* Logical id; MOETRACE_NO_EXPERT: the slot is empty. */
  uint16_t expert;
  /* The expert-parallel rank that has the slot. */
  uint16_t rank;
} moetrace_placed_expert;

/* Reserved: no producer writes it yet (1.3). Which experts lie where in a layer, from a step on:
 * the load balancer has moved or copied some. */
typedef struct moetrace_placement_event {
  moetrace_event_commit commit;
  uint64_t from_step;
  uint32_t layer;
  /* Physical slots of the layer. */
  uint32_t slots;
  /* The first 10, by physical slot; the rest follows in continuations. */
  moetrace_placed_expert placed[10];
} moetrace_placement_event;

typedef struct moetrace_placement_more_event {
  moetrace_event_commit commit;
  moetrace_placed_expert placed[14];
} moetrace_placement_more_event;

/* ---- .ctl ------------------------------------------------------------------------------------ */

/* The collector's position. The collector writes the ledger after the lines are in the file and
 * before it moves a consumed position. Two ledgers alternate, like the snapshots. If the trace file
 * is gone, the next collector starts a new file from the ledger. */
typedef struct moetrace_ledger {
  uint64_t number;
  /* The next route slot: everything below is delivered, filtered or a hole. */
  uint64_t route;
  /* The first event slot whose line is not written yet. */
  uint64_t event;
  /* Totals of the trace up to here. A step that is under way counts completely. */
  uint64_t attempted;
  uint64_t filtered;
  /* Dropped by the hook. */
  uint64_t dropped;
  /* Lost because an announcement found no room. */
  uint64_t event_lost;
  /* Torn rows that never had a slot. */
  uint64_t unclaimed;
} moetrace_ledger;

/* What `moetrace start`, `stop` and `set` write. `version` is odd while the words are being
 * written. */
typedef struct moetrace_control {
  uint64_t version;
  uint32_t enabled;
  uint32_t sample_every;
  moetrace_layer_mask layers;
  uint8_t reserved[16];
} moetrace_control;

/* How full the collectors of a trace have seen the route ring (1.4). */
typedef struct moetrace_ring_use {
  /* The most slots that were claimed and not consumed when a collector looked, or all, if the hook
   * has dropped a row; it never decreases. 0: no collector has seen a row. */
  uint64_t high_water;
  uint8_t reserved[56];
} moetrace_ring_use;

/* What the collector says of the trace's files, about once a second (1.4). All 0: nothing yet. */
typedef struct moetrace_written {
  /* Of all files of the trace, those included that are gone. */
  uint64_t bytes;
  /* At the rate of the last ten seconds. */
  uint64_t bytes_an_hour;
  /* 1 + how many more bytes until the collector switches recording off; 0: it has no limit. */
  uint64_t room_plus_1;
  /* Of all traces of the collector, which share that room. */
  uint64_t total_bytes_an_hour;
  /* How many threads may make the text of its rows as lines. 0: its rows are not lines. */
  uint64_t encoder_threads;
  uint8_t reserved[24];
} moetrace_written;

/* Offset 0 of .ctl, and all of it. */
typedef struct moetrace_ctl {
  char magic[8];
  uint16_t abi_major;
  uint16_t abi_minor;
  uint32_t byte_order;
  uint8_t trace_id[16];
  uint8_t reserved0[32];
  /* On a line of its own, because the producer polls it. */
  uint64_t route_consumed;
  uint8_t reserved1[56];
  uint64_t event_consumed;
  uint8_t reserved2[56];
  /* The number of collectors that have served this segment. */
  uint64_t collector_generation;
  uint64_t collector_pid;
  uint8_t reserved3[48];
  moetrace_ledger ledger[2];
  moetrace_control control;
  moetrace_ring_use ring_use;
  moetrace_written written;
  /* 4096 - 9 * 64 */
  uint8_t reserved4[3520];
} moetrace_ctl;

#endif
