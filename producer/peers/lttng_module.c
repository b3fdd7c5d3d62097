/* The LTTng peer's tracepoint, in a module of its own: lttng-ust starts threads as soon as it is
 * loaded, and only the writer, after the fork, shall have them. */
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "producer/peers/lttng_record.h"

void moetrace_peers_trace(const uint64_t* words);

void moetrace_peers_trace(const uint64_t* words) {
  lttng_ust_tracepoint(moetrace_peers, record, words);
}
