/* clang-format off */
/* moetrace segment ABI, version 1. The reference text is ABI.md beside this file.
 *
 * Promise: within one major version a field never moves, shrinks or changes its meaning. Reserved bytes are written as 0 and
 * ignored by readers; a minor version may give them a meaning. Event kinds may be added; readers skip what they don't know.
 *
 * Plain C11 that also compiles as C++20 and CUDA. Every offset is asserted; every odd number shows its arithmetic. */
#ifndef MOETRACE_SHM_ABI_H
#define MOETRACE_SHM_ABI_H

#include <stddef.h>
#include <stdint.h>

#define MOETRACE_ABI_MAJOR 1
#define MOETRACE_ABI_MINOR 2
#define MOETRACE_RING_MAGIC "MOETRACE" /* 8 bytes, no terminator */
#define MOETRACE_CTL_MAGIC "MOETRCTL"
#define MOETRACE_BYTE_ORDER 0x01020304u /* as the producer's machine stores it */

#define MOETRACE_MAX_LAYERS 256u
#define MOETRACE_MAX_TOP_K 32u
#define MOETRACE_MAX_EXPERTS 65535u     /* 0xFFFF means none */
#define MOETRACE_MAX_ROUTE_SLOTS (1ull << 31) /* so that the low 32 bits of seq never repeat within a lap */
#define MOETRACE_MAX_EVENT_SLOTS (1ull << 31)
#define MOETRACE_MAX_GROUP_SLOTS 65535u /* width of EventCommit.slots */
#define MOETRACE_MAX_REQUEST_ID 255u    /* bytes, without a terminator */
#define MOETRACE_NO_EXPERT 0xFFFFu
#define MOETRACE_UNKNOWN_POSITION 0xFFFFFFFFFFFFFFFFu /* of a span: token_idx is null in the trace (1.2) */
#define MOETRACE_UNKNOWN_TOKENS 0xFFFFFFFFu /* prompt_tokens, cached_tokens, generated_tokens: not known, null in the trace */

/* Byte of the .ctl file on which each party holds its open-file-description lock. */
#define MOETRACE_LOCK_PRODUCER 0
#define MOETRACE_LOCK_COLLECTOR 1
#define MOETRACE_LOCK_CONTROL 2 /* held by whoever changes the control words, for as long as that takes */

/* Bit l of words[l / 64] stands for model layer l. */
typedef struct moetrace_layer_mask {
  uint64_t words[4]; /* 4 * 64 = 256 layers */
} moetrace_layer_mask;

enum moetrace_claimer { MOETRACE_CLAIMER_CPU = 0, MOETRACE_CLAIMER_GPU = 1 };

enum moetrace_header_flags {
  MOETRACE_HAS_SEED = 1u << 0,
  MOETRACE_ROUTER_RENORMALIZED = 1u << 1, /* top-k weights are divided by their sum */
  MOETRACE_ROUTER_KNOWN = 1u << 2,        /* the router fields mean something */
  MOETRACE_ROUTER_BIASED = 1u << 3,       /* experts are chosen by score + bias, weights are scores (1.2) */
  MOETRACE_LAYERS_UNKNOWN = 1u << 4,      /* num_layers is only as many as the ring needs: a replayed log (1.2) */
  MOETRACE_RANKS_UNKNOWN = 1u << 5        /* rank to ep_rank mean nothing: a replayed log (1.2) */
};

/* Offset 0 of .ring. Written once, before the file gets its final name. Strings are UTF-8, end with a 0; empty: unknown. */
typedef struct moetrace_ring_header {
  char magic[8];
  uint16_t abi_major;
  uint16_t abi_minor;
  uint32_t byte_order;
  uint8_t trace_id[16]; /* UUID, in the order in which it is printed */
  uint64_t ring_bytes;  /* size of .ring */
  uint64_t ctl_bytes;   /* size of .ctl */
  uint32_t header_bytes;
  uint32_t route_stride; /* 64 * ceil(top_k / 8) */
  uint32_t top_k;
  uint32_t num_layers;
  uint32_t num_experts;
  uint32_t claimer; /* enum moetrace_claimer */
  uint64_t state_offset;
  uint64_t request_offset;
  uint64_t event_offset;
  uint64_t route_offset;
  uint64_t counts_offset;
  uint64_t event_slots; /* a power of two */
  uint64_t route_slots; /* a power of two */
  uint32_t request_slots;
  uint32_t flags; /* enum moetrace_header_flags */
  int64_t seed;
  int64_t created_realtime_ns; /* CLOCK_REALTIME and CLOCK_MONOTONIC, read together */
  int64_t created_monotonic_ns;
  moetrace_layer_mask layers_logged; /* the selection at the start */
  moetrace_layer_mask moe_layers;    /* the layers that call the hook */
  double router_scaling;
  uint32_t producer_pid;
  uint32_t sample_every; /* at the start: 1 every step, n every n-th, 0 count only */
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
  char router_score[32]; /* "softmax", "sigmoid" */
  uint32_t router_groups; /* experts are chosen within the best of so many groups; 0: of all (1.2) */
  uint32_t router_topk_groups; /* how many of them (1.2) */
  char notes[1024]; /* lines, separated by \n: what a reader of the trace must know (1.2) */
  uint8_t reserved1[1880];
} moetrace_ring_header;

/* One 64-byte line of .ring that the host part of the producer writes. Each word grows only (closed: 0, then 1). */
typedef struct moetrace_host_counters {
  uint64_t attempted;      /* rows x selected layers of every announced recording step, event_lost included */
  uint64_t event_lost;     /* of these, the ones whose announcement found no room in the event ring */
  uint64_t steps;          /* announced steps, also those that only count; the next step's number */
  uint64_t closed;         /* 1 once the producer has closed */
  uint64_t events_claimed; /* event slots written so far */
  uint64_t announce_ns;    /* time of the engine's threads that announcements have taken (1.2) */
  uint64_t hook_ns;        /* and calls of the hook: an estimate, see ABI.md (1.2) */
  uint64_t reserved;
} moetrace_host_counters;

/* State of the route ring at the end of a step. Two of them alternate: number n is written to snapshot n % 2, `number` last. */
typedef struct moetrace_snapshot {
  uint64_t number;     /* 1, 2, 3, ...; 0: never written */
  uint64_t steps_done; /* every step below this number is over */
  uint64_t claimed;    /* route slots claimed so far */
  uint64_t dropped;    /* route records for which there was no slot so far */
  uint64_t reserved[4];
} moetrace_snapshot;

/* Stands before the counts. `version` is odd while the table is being written. */
typedef struct moetrace_counts_header {
  uint64_t version;
  uint64_t steps_done; /* the counts are exact as of all steps below this number */
  uint64_t reserved[6];
} moetrace_counts_header;

/* How far a GPU has come (1.1; a CPU leaves it 0). Where a GPU claims the slots, only those below are valid. */
typedef struct moetrace_published {
  uint64_t routes;
  uint64_t reserved[7];
} moetrace_published;

/* At state_offset. One writer a line. */
typedef struct moetrace_state {
  moetrace_host_counters host;
  moetrace_snapshot snapshots[2];
  moetrace_counts_header counts;
  moetrace_published published;
  uint8_t reserved[3776]; /* 4096 - 5 * 64 */
} moetrace_state;

/* At request_offset: the live requests, so that a collector which comes late can name them. An entry is taken again only when
 * the event that ended its request has been consumed. */
typedef struct moetrace_request_entry {
  uint64_t number_plus_1; /* 0: free or being written */
  uint64_t begin_event;   /* first slot of its request event */
  uint64_t end_event;     /* first slot of its request_end event; UINT64_MAX while it lives */
  uint32_t prompt_tokens;
  uint32_t cached_tokens;
  uint32_t id_bytes;
  uint32_t reserved0;
  char id[256];
  uint8_t reserved1[24];
} moetrace_request_entry;

/* ---- route ring ---------------------------------------------------------------------------------------------------------- */

/* First 16 bytes of every route record. {seq, step} is the commit word: one naturally aligned 8-byte store, the last (of a CPU;
 * a GPU writes whole records and publishes its position). */
typedef struct moetrace_route_head {
  uint32_t seq;  /* low 32 bits of the slot's number + 1 */
  uint32_t step; /* low 32 bits of the step's number */
  uint32_t row;
  uint16_t layer;
  uint16_t flags; /* 0 */
} moetrace_route_head;

/* The whole record for top_k <= 8. For more: stride 64n, ids from byte 16, weights from byte 16 + 16n, 8n of each. */
typedef struct moetrace_route_record {
  moetrace_route_head head;
  uint16_t expert[8]; /* logical ids; MOETRACE_NO_EXPERT past top_k */
  float weight[8];    /* as the router gave them; NaN where the engine gives none; 0 past top_k */
} moetrace_route_record;

/* ---- event ring ---------------------------------------------------------------------------------------------------------- */

enum moetrace_event_kind {
  MOETRACE_EVENT_STEP = 1,
  MOETRACE_EVENT_SPAN = 2, /* continues a step */
  MOETRACE_EVENT_REQUEST = 3,
  MOETRACE_EVENT_TEXT = 4, /* continues a request */
  MOETRACE_EVENT_REQUEST_END = 5,
  MOETRACE_EVENT_CONTROL = 6
};

/* First 8 bytes of every event slot, stored last, as one word. A group of slots is one event: its head's word is stored after
 * those of all its continuations, so a reader that goes in order sees all of it or nothing. */
typedef struct moetrace_event_commit {
  uint32_t seq; /* low 32 bits of the slot's number + 1 */
  uint8_t kind; /* enum moetrace_event_kind */
  uint8_t flags;
  uint16_t slots; /* slots of the group; 0 in a continuation */
} moetrace_event_commit;

typedef struct moetrace_step_event {
  moetrace_event_commit commit;
  uint64_t step;
  int64_t time_ns; /* CLOCK_MONOTONIC minus created_monotonic_ns */
  uint32_t rows;
  uint32_t spans;
  uint32_t layers; /* layers recorded in this step; 0: it only counts */
  uint32_t reserved0;
  uint8_t reserved1[24];
} moetrace_step_event;

/* Rows [first_row, first_row + rows) of the pass are the tokens [first_position, ...) of a request, or, with
 * MOETRACE_UNKNOWN_POSITION, tokens of it at positions that nobody knows yet. */
typedef struct moetrace_span {
  uint64_t request;
  uint64_t first_position;
  uint32_t first_row;
  uint32_t rows;
} moetrace_span;

typedef struct moetrace_span_event {
  moetrace_event_commit commit;
  moetrace_span span[2]; /* the second has rows = 0 where the number of spans is odd */
  uint64_t reserved;
} moetrace_span_event;

typedef struct moetrace_request_event {
  moetrace_event_commit commit;
  uint64_t request; /* never reused */
  uint32_t prompt_tokens;
  uint32_t cached_tokens;
  uint32_t id_bytes;
  uint32_t reserved;
  char id[32]; /* the rest follows in text slots */
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
  char status[32]; /* "stop", "length", "cancelled"; ends with a 0 */
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

/* ---- .ctl ---------------------------------------------------------------------------------------------------------------- */

/* Where the collector stands, written after the lines are in the file and before the consumed positions move. Two alternate,
 * like the snapshots. It is what a new file starts from when the old one is not there. */
typedef struct moetrace_ledger {
  uint64_t number;
  uint64_t route;      /* next route slot: everything below is delivered, filtered or a hole */
  uint64_t event;      /* first event slot whose line is not written yet */
  uint64_t attempted;  /* totals of the trace up to here; the step that is under way counts as a whole */
  uint64_t filtered;
  uint64_t dropped;    /* by the hook */
  uint64_t event_lost; /* by announcements without room */
  uint64_t unclaimed;  /* torn without ever having had a slot */
} moetrace_ledger;

/* What `moetrace start`, `stop` and `set` write. `version` is odd while the words are being written. */
typedef struct moetrace_control {
  uint64_t version;
  uint32_t enabled;
  uint32_t sample_every;
  moetrace_layer_mask layers;
  uint8_t reserved[16];
} moetrace_control;

/* Offset 0 of .ctl, and all of it. */
typedef struct moetrace_ctl {
  char magic[8];
  uint16_t abi_major;
  uint16_t abi_minor;
  uint32_t byte_order;
  uint8_t trace_id[16];
  uint8_t reserved0[32];
  uint64_t route_consumed; /* a line of its own: the producer polls it */
  uint8_t reserved1[56];
  uint64_t event_consumed;
  uint8_t reserved2[56];
  uint64_t collector_generation; /* counts the collectors that have served this segment */
  uint64_t collector_pid;
  uint8_t reserved3[48];
  moetrace_ledger ledger[2];
  moetrace_control control;
  uint8_t reserved4[3648]; /* 4096 - 7 * 64 */
} moetrace_ctl;

/* ---- the asserted layout ------------------------------------------------------------------------------------------------- */

#ifdef __cplusplus
#define MOETRACE_ASSERT(condition, reason) static_assert(condition, reason)
#else
#define MOETRACE_ASSERT(condition, reason) _Static_assert(condition, reason)
#endif
#define MOETRACE_AT(type, field, offset) \
  MOETRACE_ASSERT(offsetof(type, field) == (offset), #type "." #field " is at byte " #offset)
#define MOETRACE_SIZE(type, bytes) MOETRACE_ASSERT(sizeof(type) == (bytes), #type " has " #bytes " bytes")

MOETRACE_SIZE(moetrace_layer_mask, 32);
MOETRACE_AT(moetrace_layer_mask, words, 0);
MOETRACE_SIZE(moetrace_ring_header, 4096);
MOETRACE_AT(moetrace_ring_header, magic, 0);
MOETRACE_AT(moetrace_ring_header, abi_major, 8);
MOETRACE_AT(moetrace_ring_header, abi_minor, 10);
MOETRACE_AT(moetrace_ring_header, byte_order, 12);
MOETRACE_AT(moetrace_ring_header, trace_id, 16);
MOETRACE_AT(moetrace_ring_header, ring_bytes, 32);
MOETRACE_AT(moetrace_ring_header, ctl_bytes, 40);
MOETRACE_AT(moetrace_ring_header, header_bytes, 48);
MOETRACE_AT(moetrace_ring_header, route_stride, 52);
MOETRACE_AT(moetrace_ring_header, top_k, 56);
MOETRACE_AT(moetrace_ring_header, num_layers, 60);
MOETRACE_AT(moetrace_ring_header, num_experts, 64);
MOETRACE_AT(moetrace_ring_header, claimer, 68);
MOETRACE_AT(moetrace_ring_header, state_offset, 72);
MOETRACE_AT(moetrace_ring_header, request_offset, 80);
MOETRACE_AT(moetrace_ring_header, event_offset, 88);
MOETRACE_AT(moetrace_ring_header, route_offset, 96);
MOETRACE_AT(moetrace_ring_header, counts_offset, 104);
MOETRACE_AT(moetrace_ring_header, event_slots, 112);
MOETRACE_AT(moetrace_ring_header, route_slots, 120);
MOETRACE_AT(moetrace_ring_header, request_slots, 128);
MOETRACE_AT(moetrace_ring_header, flags, 132);
MOETRACE_AT(moetrace_ring_header, seed, 136);
MOETRACE_AT(moetrace_ring_header, created_realtime_ns, 144);
MOETRACE_AT(moetrace_ring_header, created_monotonic_ns, 152);
MOETRACE_AT(moetrace_ring_header, layers_logged, 160);
MOETRACE_AT(moetrace_ring_header, moe_layers, 192);
MOETRACE_AT(moetrace_ring_header, router_scaling, 224);
MOETRACE_AT(moetrace_ring_header, producer_pid, 232);
MOETRACE_AT(moetrace_ring_header, sample_every, 236);
MOETRACE_AT(moetrace_ring_header, rank, 240);
MOETRACE_AT(moetrace_ring_header, world_size, 244);
MOETRACE_AT(moetrace_ring_header, tp_rank, 248);
MOETRACE_AT(moetrace_ring_header, dp_rank, 252);
MOETRACE_AT(moetrace_ring_header, pp_rank, 256);
MOETRACE_AT(moetrace_ring_header, ep_rank, 260);
MOETRACE_AT(moetrace_ring_header, reserved0, 264);
MOETRACE_AT(moetrace_ring_header, model_id, 320);
MOETRACE_AT(moetrace_ring_header, engine, 576);
MOETRACE_AT(moetrace_ring_header, engine_version, 640);
MOETRACE_AT(moetrace_ring_header, vllm_version, 704);
MOETRACE_AT(moetrace_ring_header, torch_version, 768);
MOETRACE_AT(moetrace_ring_header, device, 832);
MOETRACE_AT(moetrace_ring_header, host, 896);
MOETRACE_AT(moetrace_ring_header, router_score, 1152);
MOETRACE_AT(moetrace_ring_header, router_groups, 1184);
MOETRACE_AT(moetrace_ring_header, router_topk_groups, 1188);
MOETRACE_AT(moetrace_ring_header, notes, 1192);
MOETRACE_AT(moetrace_ring_header, reserved1, 2216);

MOETRACE_SIZE(moetrace_host_counters, 64);
MOETRACE_AT(moetrace_host_counters, attempted, 0);
MOETRACE_AT(moetrace_host_counters, event_lost, 8);
MOETRACE_AT(moetrace_host_counters, steps, 16);
MOETRACE_AT(moetrace_host_counters, closed, 24);
MOETRACE_AT(moetrace_host_counters, events_claimed, 32);
MOETRACE_AT(moetrace_host_counters, announce_ns, 40);
MOETRACE_AT(moetrace_host_counters, hook_ns, 48);
MOETRACE_AT(moetrace_host_counters, reserved, 56);
MOETRACE_SIZE(moetrace_snapshot, 64);
MOETRACE_AT(moetrace_snapshot, number, 0);
MOETRACE_AT(moetrace_snapshot, steps_done, 8);
MOETRACE_AT(moetrace_snapshot, claimed, 16);
MOETRACE_AT(moetrace_snapshot, dropped, 24);
MOETRACE_AT(moetrace_snapshot, reserved, 32);
MOETRACE_SIZE(moetrace_counts_header, 64);
MOETRACE_AT(moetrace_counts_header, version, 0);
MOETRACE_AT(moetrace_counts_header, steps_done, 8);
MOETRACE_AT(moetrace_counts_header, reserved, 16);
MOETRACE_SIZE(moetrace_published, 64);
MOETRACE_AT(moetrace_published, routes, 0);
MOETRACE_AT(moetrace_published, reserved, 8);
MOETRACE_SIZE(moetrace_state, 4096);
MOETRACE_AT(moetrace_state, host, 0);
MOETRACE_AT(moetrace_state, snapshots, 64);
MOETRACE_AT(moetrace_state, counts, 192);
MOETRACE_AT(moetrace_state, published, 256);
MOETRACE_AT(moetrace_state, reserved, 320);
MOETRACE_SIZE(moetrace_request_entry, 320);
MOETRACE_AT(moetrace_request_entry, number_plus_1, 0);
MOETRACE_AT(moetrace_request_entry, begin_event, 8);
MOETRACE_AT(moetrace_request_entry, end_event, 16);
MOETRACE_AT(moetrace_request_entry, prompt_tokens, 24);
MOETRACE_AT(moetrace_request_entry, cached_tokens, 28);
MOETRACE_AT(moetrace_request_entry, id_bytes, 32);
MOETRACE_AT(moetrace_request_entry, reserved0, 36);
MOETRACE_AT(moetrace_request_entry, id, 40);
MOETRACE_AT(moetrace_request_entry, reserved1, 296);

MOETRACE_SIZE(moetrace_route_head, 16);
MOETRACE_AT(moetrace_route_head, seq, 0);
MOETRACE_AT(moetrace_route_head, step, 4);
MOETRACE_AT(moetrace_route_head, row, 8);
MOETRACE_AT(moetrace_route_head, layer, 12);
MOETRACE_AT(moetrace_route_head, flags, 14);
MOETRACE_SIZE(moetrace_route_record, 64);
MOETRACE_AT(moetrace_route_record, head, 0);
MOETRACE_AT(moetrace_route_record, expert, 16);
MOETRACE_AT(moetrace_route_record, weight, 32);

MOETRACE_SIZE(moetrace_event_commit, 8);
MOETRACE_AT(moetrace_event_commit, seq, 0);
MOETRACE_AT(moetrace_event_commit, kind, 4);
MOETRACE_AT(moetrace_event_commit, flags, 5);
MOETRACE_AT(moetrace_event_commit, slots, 6);
MOETRACE_SIZE(moetrace_step_event, 64);
MOETRACE_AT(moetrace_step_event, commit, 0);
MOETRACE_AT(moetrace_step_event, step, 8);
MOETRACE_AT(moetrace_step_event, time_ns, 16);
MOETRACE_AT(moetrace_step_event, rows, 24);
MOETRACE_AT(moetrace_step_event, spans, 28);
MOETRACE_AT(moetrace_step_event, layers, 32);
MOETRACE_AT(moetrace_step_event, reserved0, 36);
MOETRACE_AT(moetrace_step_event, reserved1, 40);
MOETRACE_SIZE(moetrace_span, 24);
MOETRACE_AT(moetrace_span, request, 0);
MOETRACE_AT(moetrace_span, first_position, 8);
MOETRACE_AT(moetrace_span, first_row, 16);
MOETRACE_AT(moetrace_span, rows, 20);
MOETRACE_SIZE(moetrace_span_event, 64);
MOETRACE_AT(moetrace_span_event, commit, 0);
MOETRACE_AT(moetrace_span_event, span, 8);
MOETRACE_AT(moetrace_span_event, reserved, 56);
MOETRACE_SIZE(moetrace_request_event, 64);
MOETRACE_AT(moetrace_request_event, commit, 0);
MOETRACE_AT(moetrace_request_event, request, 8);
MOETRACE_AT(moetrace_request_event, prompt_tokens, 16);
MOETRACE_AT(moetrace_request_event, cached_tokens, 20);
MOETRACE_AT(moetrace_request_event, id_bytes, 24);
MOETRACE_AT(moetrace_request_event, reserved, 28);
MOETRACE_AT(moetrace_request_event, id, 32);
MOETRACE_SIZE(moetrace_text_event, 64);
MOETRACE_AT(moetrace_text_event, commit, 0);
MOETRACE_AT(moetrace_text_event, text, 8);
MOETRACE_SIZE(moetrace_request_end_event, 64);
MOETRACE_AT(moetrace_request_end_event, commit, 0);
MOETRACE_AT(moetrace_request_end_event, request, 8);
MOETRACE_AT(moetrace_request_end_event, generated_tokens, 16);
MOETRACE_AT(moetrace_request_end_event, reserved0, 20);
MOETRACE_AT(moetrace_request_end_event, status, 24);
MOETRACE_AT(moetrace_request_end_event, reserved1, 56);
MOETRACE_SIZE(moetrace_control_event, 64);
MOETRACE_AT(moetrace_control_event, commit, 0);
MOETRACE_AT(moetrace_control_event, from_step, 8);
MOETRACE_AT(moetrace_control_event, enabled, 16);
MOETRACE_AT(moetrace_control_event, sample_every, 20);
MOETRACE_AT(moetrace_control_event, layers, 24);
MOETRACE_AT(moetrace_control_event, reserved, 56);

MOETRACE_SIZE(moetrace_ledger, 64);
MOETRACE_AT(moetrace_ledger, number, 0);
MOETRACE_AT(moetrace_ledger, route, 8);
MOETRACE_AT(moetrace_ledger, event, 16);
MOETRACE_AT(moetrace_ledger, attempted, 24);
MOETRACE_AT(moetrace_ledger, filtered, 32);
MOETRACE_AT(moetrace_ledger, dropped, 40);
MOETRACE_AT(moetrace_ledger, event_lost, 48);
MOETRACE_AT(moetrace_ledger, unclaimed, 56);
MOETRACE_SIZE(moetrace_control, 64);
MOETRACE_AT(moetrace_control, version, 0);
MOETRACE_AT(moetrace_control, enabled, 8);
MOETRACE_AT(moetrace_control, sample_every, 12);
MOETRACE_AT(moetrace_control, layers, 16);
MOETRACE_AT(moetrace_control, reserved, 48);
MOETRACE_SIZE(moetrace_ctl, 4096);
MOETRACE_AT(moetrace_ctl, magic, 0);
MOETRACE_AT(moetrace_ctl, abi_major, 8);
MOETRACE_AT(moetrace_ctl, abi_minor, 10);
MOETRACE_AT(moetrace_ctl, byte_order, 12);
MOETRACE_AT(moetrace_ctl, trace_id, 16);
MOETRACE_AT(moetrace_ctl, reserved0, 32);
MOETRACE_AT(moetrace_ctl, route_consumed, 64);
MOETRACE_AT(moetrace_ctl, reserved1, 72);
MOETRACE_AT(moetrace_ctl, event_consumed, 128);
MOETRACE_AT(moetrace_ctl, reserved2, 136);
MOETRACE_AT(moetrace_ctl, collector_generation, 192);
MOETRACE_AT(moetrace_ctl, collector_pid, 200);
MOETRACE_AT(moetrace_ctl, reserved3, 208);
MOETRACE_AT(moetrace_ctl, ledger, 256);
MOETRACE_AT(moetrace_ctl, control, 384);
MOETRACE_AT(moetrace_ctl, reserved4, 448);

#endif
