/* libmoetrace_reader: the text of a trace in, columns out. The Python package uses it through
 * ctypes; trace/FORMAT.md describes the lines.
 *
 * The caller brings the text in pieces, from a file or from ZeroMQ messages; the reader takes whole
 * lines only. The library never opens, prints or waits. Use a reader from one thread at a time.
 * A number that a line does not give (null, or a plain log without the key) is -1, such a weight is
 * NaN.
 */
// clang-format off
/* A file, from its first byte:
 *
 *   moetrace_reader* r = moetrace_reader_begin(0);
 *   moetrace_reader_place place = {.byte = 0, .line = 1};
 *   int64_t taken = moetrace_reader_read(r, text, bytes, &place, NULL, MOETRACE_READER_ALL);
 *
 * Lines after a meta line (without its newline) that came in another way:
 *
 *   moetrace_reader* r = moetrace_reader_open(meta, meta_bytes, 0, why, sizeof why);
 *   moetrace_reader_place place = {.byte = meta_bytes + 1, .line = 2};
 *
 * ABI: a struct that begins with `size` may grow at its end. Set `size` to the struct's sizeof; the
 * library touches no byte after it. Functions are only added (symbol version MOETRACE_READER_0).
 */
// clang-format on
#ifndef MOETRACE_READER_H
#define MOETRACE_READER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Rows of all requests, and those that belong to none. */
#define MOETRACE_READER_ALL (-2)

typedef struct moetrace_reader moetrace_reader;

/* Where a line begins: bytes before it in the trace, and its number from 1. */
typedef struct moetrace_reader_place {
  uint64_t byte;
  uint64_t line;
} moetrace_reader_place;

/* Arrays of the caller with room for `capacity` rows each, k being top_k of the trace. A row of a
 * layer with a smaller top_k fills the first places; the others are -1 and NaN. */
typedef struct moetrace_reader_rows {
  size_t size; /* sizeof(moetrace_reader_rows) */
  size_t capacity;
  size_t count;     /* rows in the arrays; the reader appends after them */
  int64_t* request; /* number; -1: the row belongs to no request */
  int64_t* step;    /* forward pass */
  int64_t* token_idx;
  int64_t* seq;
  int16_t* layer; /* 0 to 255 */
  int32_t* ids;   /* [capacity][k], 0 to num_experts - 1; -1: no expert */
  float* weights; /* [capacity][k]; NaN: not known */
} moetrace_reader_rows;

typedef struct moetrace_reader_info {
  size_t size;          /* sizeof(moetrace_reader_info) */
  uint32_t top_k;       /* 0: no line has said it yet */
  uint32_t num_experts; /* 0: neither the file nor the caller says it */
  /* Of the model; where the file does not say it, one more than the highest layer seen. */
  uint32_t num_layers;
  uint32_t plain;    /* 1: a log of the public format, without numbers of requests */
  uint64_t requests; /* how many are known so far */
} moetrace_reader_info;

/* A request, from its own lines and from its rows so far. Those of a plain log are numbered as they
 * appear, one for each name. Strings are UTF-8, may hold NUL, and stay valid until the reader reads
 * again. */
typedef struct moetrace_reader_request {
  size_t size; /* sizeof(moetrace_reader_request) */
  int64_t number;
  const char* req_id; /* NULL: unknown */
  size_t req_id_bytes;
  int64_t prompt_tokens;
  int64_t cached_tokens;
  int64_t generated_tokens;
  const char* status; /* NULL: the request has not ended, or the file does not say how */
  size_t status_bytes;
  int64_t rows;
  int64_t positions;           /* one more than the highest token_idx */
  moetrace_reader_place first; /* its first row's line */
  uint64_t end_byte;           /* the byte after its last row's line */
} moetrace_reader_request;

/* The kinds of lines other than rows, as bits. */
#define MOETRACE_READER_STEP 0x01u
#define MOETRACE_READER_REQUEST 0x02u
#define MOETRACE_READER_REQUEST_END 0x04u
#define MOETRACE_READER_LOSS 0x08u
#define MOETRACE_READER_TORN 0x10u
#define MOETRACE_READER_BASE 0x20u /* a `base` line, or with part >= 2 a `part` line */
#define MOETRACE_READER_CONTROL 0x40u
#define MOETRACE_READER_END 0x80u

/* `code` of a loss line: its cause. 0: a cause that this library does not know. */
#define MOETRACE_READER_RING_FULL 1
#define MOETRACE_READER_EVENT_RING_FULL 2
/* `code` of an end line: its status. 0: a status that this library does not know. */
#define MOETRACE_READER_CLOSED 1
#define MOETRACE_READER_PRODUCER_DIED 2
#define MOETRACE_READER_CONTINUED 3
#define MOETRACE_READER_BAD_SEGMENT 4
/* `code` of a control line: why the collector stopped tracing. 0: it did not, or for a reason that
 * this library does not know. */
#define MOETRACE_READER_MAX_TOTAL_SIZE 1

/* A line other than a row. The comments name the kinds that have a member; elsewhere it is -1
 * (`code`, `layer_mask`: 0). */
typedef struct moetrace_reader_line {
  uint32_t kind;               /* MOETRACE_READER_STEP, … */
  int32_t code;                /* loss, control, end: see above */
  int32_t enabled;             /* control: 1 recording, 0 stopped */
  int32_t reserved;            /* 0 */
  moetrace_reader_place place; /* where the line begins */
  int64_t step;                /* step; base: the step under way */
  int64_t rows;                /* step: rows of the pass */
  int64_t layers;              /* step: recorded layers; 0: the step only counts */
  int64_t time_ns;             /* step: since created_at of the meta line */
  /* step, base: number of the next row; loss: after_seq; torn: first_seq */
  int64_t seq;
  int64_t event;            /* step, request, request_end, base, control: event slot */
  int64_t attempted;        /* step, base: running total of the trace; end: of the file */
  int64_t delivered;        /* the same */
  int64_t filtered;         /* the same */
  int64_t dropped;          /* the same; loss: the trace's total after this loss */
  int64_t torn;             /* step, base, end */
  int64_t event_lost;       /* step, base, loss: the part of `dropped` that was never announced */
  int64_t open;             /* base, end: announced rows still to come */
  int64_t part;             /* base: number of the part; -1: a `base` line */
  int64_t count;            /* loss: rows dropped here; torn: rows torn here */
  int64_t request;          /* request, request_end: number */
  int64_t prompt_tokens;    /* request */
  int64_t cached_tokens;    /* request */
  int64_t generated_tokens; /* request_end */
  int64_t sample_every;     /* control; 0: count without recording */
  int64_t from_step;        /* control: the first step it holds for */
  int64_t announce_ns;      /* end: time that announcing took the engine's threads */
  int64_t hook_ns;          /* end: time that recording took them; -1: not measured */
  uint64_t layer_mask[4];   /* control: bit l % 64 of word l / 64 is layer l */
  int64_t ring_slots;       /* end: rows that the ring holds; -1: an older trace */
  int64_t high_water;       /* end: the most rows that were in the ring; -1: an older trace */
} moetrace_reader_line;

/* An array of the caller with room for `capacity` lines. */
typedef struct moetrace_reader_lines {
  size_t size;      /* sizeof(moetrace_reader_lines) */
  size_t line_size; /* sizeof(moetrace_reader_line), the distance of two lines */
  size_t capacity;
  size_t count; /* lines in the array; the reader appends after them */
  moetrace_reader_line* lines;
  uint32_t kinds; /* wanted, such as MOETRACE_READER_LOSS | MOETRACE_READER_TORN */
} moetrace_reader_lines;

/* `num_experts`: for files that do not say it, else 0. Returns NULL when out of memory. */
moetrace_reader* moetrace_reader_begin(uint32_t num_experts);
/* Returns NULL on failure, with one line in `why`. */
moetrace_reader* moetrace_reader_open(const char* meta, size_t meta_bytes, uint32_t num_experts,
                                      char* why, size_t why_bytes);
/* NULL is fine. */
void moetrace_reader_close(moetrace_reader* reader);

/* Takes whole lines until the text ends or `rows` is full. With `rows` NULL the reader only counts;
 * read so until top_k is known (moetrace_reader_get_info), because before that a call with rows
 * takes nothing. The text begins at `place`, which moves past what was taken. `only`: the number of
 * the request whose rows are wanted, or MOETRACE_READER_ALL. Returns the bytes taken; -1: the line
 * at `place` is wrong (moetrace_reader_error), and what came before it has been taken.
 *
 * Requests, expert counts and the end are known up to moetrace_reader_counted. Lines before that
 * place may be read again any number of times; each counts once. Read up to that place, in one call
 * or in many, before relying on these totals. */
int64_t moetrace_reader_read(moetrace_reader* reader, const char* text, size_t bytes,
                             moetrace_reader_place* place, moetrace_reader_rows* rows,
                             int64_t only);

/* The same where the text ends with the file: also takes the text after the last newline, if it is
 * a whole JSON object. Its newline may still come, and is then the text at `place`. Anything else
 * there is an unfinished line, which is left. */
int64_t moetrace_reader_read_last(moetrace_reader* reader, const char* text, size_t bytes,
                                  moetrace_reader_place* place, moetrace_reader_rows* rows,
                                  int64_t only);

/* Like moetrace_reader_read, for lines other than rows: takes whole lines until the text ends or
 * `lines` is full, and appends those of the wanted kinds. `last`: not 0 where the text ends with
 * the file, as in moetrace_reader_read_last. Since 0.2. */
int64_t moetrace_reader_read_lines(moetrace_reader* reader, const char* text, size_t bytes,
                                   moetrace_reader_place* place, moetrace_reader_lines* lines,
                                   int last);

/* "line N: why", or "not a trace: why" of the first line; "" if nothing was wrong. Valid until the
 * reader reads again. */
const char* moetrace_reader_error(const moetrace_reader* reader);
/* What to try about that error; "": look at the line. Valid as long. */
const char* moetrace_reader_what_to_try(const moetrace_reader* reader);

/* Text of the first meta line; NULL: none has come. Valid until the reader reads again. */
const char* moetrace_reader_meta(const moetrace_reader* reader, size_t* bytes);
/* At first the beginning of the text, or the line after meta. */
moetrace_reader_place moetrace_reader_counted(const moetrace_reader* reader);
void moetrace_reader_get_info(const moetrace_reader* reader, moetrace_reader_info* info);
/* Request at `index` of those known, in the order of their first line. Returns 0 past the last. */
int moetrace_reader_get_request(const moetrace_reader* reader, uint64_t index,
                                moetrace_reader_request* request);
/* How often each expert was picked in a layer: [num_experts]. Returns 0, and leaves `counts` alone,
 * where the layer has no row or num_experts is not known. */
int moetrace_reader_get_counts(const moetrace_reader* reader, uint32_t layer, int64_t* counts);
/* The text of the last `end` line; NULL: none has come. Valid until the reader reads again. */
const char* moetrace_reader_end(const moetrace_reader* reader, size_t* bytes);

/* The rows of a part that are in another file (FORMAT.md, "Rows as Arrow"). Since 0.2. */
typedef struct moetrace_reader_batches moetrace_reader_batches;

/* Returns 1 if a file that begins with these bytes (8 decide) may be a rows file, else 0. */
int moetrace_reader_is_batches(const char* first, size_t bytes);
/* `reader` has read the lines up to counted(); their last `rows` line says how many rows count. A
 * reader of moetrace_reader_begin that has read nothing takes all rows, for a file whose lines are
 * missing. `name`: what messages call the file. `fd`: compressed or not; the library uses a copy.
 * `byte`: 0, or where the first row of a request is (`first` of moetrace_reader_request, which is a
 * place in the rows file here, as is `end_byte`). Returns NULL on failure, with "NAME: why; what to
 * try" in `why`. */
moetrace_reader_batches* moetrace_reader_open_batches(moetrace_reader* reader, const char* name,
                                                      int fd, uint64_t byte, char* why,
                                                      size_t why_bytes);
/* Appends rows until `rows` is full or there are none. With `rows` NULL the reader only counts all.
 * Returns the rows that it went past, also those that `only` left out; 0: there are no more. -1:
 * moetrace_reader_error, which begins with the file's name; what came before has been taken. Each
 * row counts once in requests and expert counts, as with moetrace_reader_read. */
int64_t moetrace_reader_read_batches(moetrace_reader* reader, moetrace_reader_batches* batches,
                                     moetrace_reader_rows* rows, int64_t only);
/* As `byte` of moetrace_reader_open_batches: the first row that has not been counted. */
uint64_t moetrace_reader_counted_batches(const moetrace_reader* reader);
/* NULL is fine. Close before the reader. */
void moetrace_reader_close_batches(moetrace_reader_batches* batches);

/* A message of topic `rows` (FORMAT.md, "ZeroMQ") of the trace whose meta line the reader has.
 * Appends its rows with a `seq` of `from_seq` or more, which count in requests and expert counts,
 * and for which `rows` must have room. Returns how many rows that were; -1: nothing has been
 * taken, and moetrace_reader_error is "why". A collector that was restarted may send rows again:
 * give the `seq` after the last row that came. Since 0.2. */
int64_t moetrace_reader_read_message(moetrace_reader* reader, const void* message, size_t bytes,
                                     int64_t from_seq, moetrace_reader_rows* rows);

/* The checksum of the body of a rows file's message, as FORMAT.md says: for writers of such a file.
 */
uint64_t moetrace_reader_checksum(const void* body, size_t bytes);

/* The text of a file that is compressed with gzip or zstd, from its start on. */
typedef struct moetrace_reader_unpacked moetrace_reader_unpacked;

/* Returns 1 if a file that begins with these bytes (8 decide) is compressed so, else 0. */
int moetrace_reader_is_packed(const char* first, size_t bytes);
/* Uses a copy of the descriptor, whose own position stays. Returns NULL on failure, with one line
 * in `why`. */
moetrace_reader_unpacked* moetrace_reader_unpack(int fd, char* why, size_t why_bytes);
/* Writes up to `bytes` bytes, at least 1, into `room`. Returns how many; 0: the file ends here for
 * now, and `cut` is 1 if the compressed data stop in the middle; -1: moetrace_reader_unpack_error.
 */
int64_t moetrace_reader_unpack_read(moetrace_reader_unpacked* unpacked, char* room, size_t bytes,
                                    int* cut);
/* "why; what to try". */
const char* moetrace_reader_unpack_error(const moetrace_reader_unpacked* unpacked);
/* NULL is fine. */
void moetrace_reader_unpack_close(moetrace_reader_unpacked* unpacked);

#ifdef __cplusplus
}
#endif

#endif
