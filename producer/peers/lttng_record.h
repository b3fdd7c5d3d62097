/* The event of the LTTng peer, as lttng-ust's macros want it. */
#undef LTTNG_UST_TRACEPOINT_PROVIDER
#define LTTNG_UST_TRACEPOINT_PROVIDER moetrace_peers
#undef LTTNG_UST_TRACEPOINT_INCLUDE
#define LTTNG_UST_TRACEPOINT_INCLUDE "producer/peers/lttng_record.h"
#if !defined(MOETRACE_PEERS_LTTNG_RECORD_H) || defined(LTTNG_UST_TRACEPOINT_HEADER_MULTI_READ)
#define MOETRACE_PEERS_LTTNG_RECORD_H
#include <lttng/tracepoint.h>
#include <stdint.h>

LTTNG_UST_TRACEPOINT_EVENT(moetrace_peers, record, LTTNG_UST_TP_ARGS(const uint64_t*, words),
                           LTTNG_UST_TP_FIELDS(lttng_ust_field_array(uint64_t, words, words, 8)))
#endif
#include <lttng/tracepoint-event.h>
