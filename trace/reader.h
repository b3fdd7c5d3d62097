/* libmoetrace_reader: text of a trace in, columns out. For the Python package, through ctypes, and
 * for whoever wants the same.
 *
 * The text comes in pieces, from a file or from ZeroMQ messages; only whole lines are taken.
 * Nothing here opens, prints or waits. One thread at a time may use a reader. Numbers that a line
 * does not give (null, or a plain log without the key) are -1, weights NaN.
 *
 * A file, from its first byte:
 *
 *   moetrace_reader* r = moetrace_reader_begin(0);
 *   moetrace_reader_place place = {.byte = 0, .line = 1};
 *   int64_t taken = moetrace_reader_read(r, text, bytes, &place, NULL, MOETRACE_READER_ALL);
 *
 * Lines behind a meta line (without its newline) that came in another way:
 *
 *   moetrace_reader* r = moetrace_reader_open(meta, meta_bytes, 0, why, sizeof why);
 *   moetrace_reader_place place = {.byte = meta_bytes + 1, .line = 2};
 */
#ifndef MOETRACE_PLOTTER_READER_H
#define MOETRACE_PLOTTER_READER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MOETRACE_READER_ALL (-2) /* rows of all requests, and of none */

typedef struct moetrace_reader moetrace_reader;

/* Where a line begins: bytes before it in the trace, and its number from 1. */
typedef struct moetrace_reader_place {
  uint64_t byte;
  uint64_t line;
} moetrace_reader_place;

/* Arrays of the caller with room for `capacity` rows each, k being top_k of the trace. */
typedef struct moetrace_reader_rows {
  size_t size; /* sizeof(moetrace_reader_rows) */
  size_t capacity;
  size_t count;     /* rows that are in; new ones go behind them */
  int64_t* request; /* number; -1: the row belongs to no request */
  int64_t* step;    /* forward pass */
  int64_t* token_idx;
  int64_t* seq;
  int16_t* layer; /* 0 to 255 */
  int32_t* ids;   /* [capacity][k], 0 to num_experts - 1; -1: none */
  float* weights; /* [capacity][k]; NaN: not known */
} moetrace_reader_rows;

typedef struct moetrace_reader_info {
  size_t size;          /* sizeof(moetrace_reader_info) */
  uint32_t top_k;       /* 0: no line has said it yet */
  uint32_t num_experts; /* 0: neither the file nor the caller says it */
  uint32_t num_layers;  /* of the model; where the file does not say it, one more than the highest
                           that was seen */
  uint32_t plain;       /* 1: a log of the public format, without numbers of requests */
  uint64_t requests;    /* how many are known so far */
} moetrace_reader_info;

/* A request, from its own lines and from its rows so far. A plain log's are numbered as they
 * appear, one for each name. Strings are UTF-8, may hold NUL, and are valid until the reader reads
 * again. */
typedef struct moetrace_reader_request {
  size_t size; /* sizeof(moetrace_reader_request) */
  int64_t number;
  const char* req_id; /* NULL: none */
  size_t req_id_bytes;
  int64_t prompt_tokens;
  int64_t cached_tokens;
  int64_t generated_tokens;
  const char* status; /* NULL: has not ended, or not said */
  size_t status_bytes;
  int64_t rows;
  int64_t positions;           /* one more than the highest token_idx */
  moetrace_reader_place first; /* its first row's line */
  uint64_t end_byte;           /* behind its last row's line */
} moetrace_reader_request;

/* `num_experts`: for files that do not say it, else 0. NULL: out of memory. */
moetrace_reader* moetrace_reader_begin(uint32_t num_experts);
/* NULL: `why` holds one line. */
moetrace_reader* moetrace_reader_open(const char* meta, size_t meta_bytes, uint32_t num_experts,
                                      char* why, size_t why_bytes);
void moetrace_reader_close(moetrace_reader* reader); /* NULL is fine */

/* Takes whole lines until the text has no more of them or `rows` is full; `rows` NULL: looks only,
 * and so it must be as long as top_k is not known (moetrace_reader_get_info): else nothing is
 * taken. The text begins at `place`, which moves behind what was taken. `only`: the number of the
 * request whose rows are wanted, or MOETRACE_READER_ALL. Returns the bytes taken; -1: the line at
 * `place` is wrong (moetrace_reader_error), what was before it is in.
 *
 * Requests, expert counts and the end are known for the trace up to moetrace_reader_counted: lines
 * before it may be read again and again and count once. Whoever has read up to there in one go or
 * in any pieces has all of it. */
int64_t moetrace_reader_read(moetrace_reader* reader, const char* text, size_t bytes,
                             moetrace_reader_place* place, moetrace_reader_rows* rows,
                             int64_t only);

/* The same where the text ends with the file: also takes what stands after the last newline, if
 * that is the whole of a JSON object. Its newline may still come, and is then the text at `place`.
 * What is left is an unfinished line. */
int64_t moetrace_reader_read_last(moetrace_reader* reader, const char* text, size_t bytes,
                                  moetrace_reader_place* place, moetrace_reader_rows* rows,
                                  int64_t only);

/* "line N: why", or "not a trace: why" of the first line; "" if nothing was wrong. Valid until the
 * reader reads again, as what to try about it, which is "" where there is nothing but to look at
 * the line. */
const char* moetrace_reader_error(const moetrace_reader* reader);
const char* moetrace_reader_what_to_try(const moetrace_reader* reader);

/* Text of the first meta line; NULL: none has come. Valid until the reader reads again. */
const char* moetrace_reader_meta(const moetrace_reader* reader, size_t* bytes);
/* At first the text's begin, or the line behind meta. */
moetrace_reader_place moetrace_reader_counted(const moetrace_reader* reader);
void moetrace_reader_get_info(const moetrace_reader* reader, moetrace_reader_info* info);
/* Request at `index` of those known, in the order of their first line. 0: there is none. */
int moetrace_reader_get_request(const moetrace_reader* reader, uint64_t index,
                                moetrace_reader_request* request);
/* How often each expert was picked in a layer: [num_experts]. 0: none was, or num_experts is not
 * known, and `counts` is as it was. */
int moetrace_reader_get_counts(const moetrace_reader* reader, uint32_t layer, int64_t* counts);
/* The text of the last `end` line; NULL: none has come. Valid until the reader reads again. */
const char* moetrace_reader_end(const moetrace_reader* reader, size_t* bytes);

/* The text of a file that is compressed with gzip or zstd, from its start on. */
typedef struct moetrace_reader_unpacked moetrace_reader_unpacked;

/* Is a file that begins with these bytes (4 decide) so compressed? */
int moetrace_reader_is_packed(const char* first, size_t bytes);
/* Uses a copy of the descriptor, whose own position stays. NULL: `why` holds one line. */
moetrace_reader_unpacked* moetrace_reader_unpack(int fd, char* why, size_t why_bytes);
/* Up to `bytes`, which is not 0, into `room`. Returns how many; 0: the end, as yet, and `cut` says
 * whether the compressed data go on; -1: moetrace_reader_unpack_error. */
int64_t moetrace_reader_unpack_read(moetrace_reader_unpacked* unpacked, char* room, size_t bytes,
                                    int* cut);
/* "why; what to try". */
const char* moetrace_reader_unpack_error(const moetrace_reader_unpacked* unpacked);
void moetrace_reader_unpack_close(moetrace_reader_unpacked* unpacked); /* NULL is fine */

#ifdef __cplusplus
}
#endif

#endif
