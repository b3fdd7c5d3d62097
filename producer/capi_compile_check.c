/* The C API must stand alone in plain C11. */
#include "producer/producer.h"

extern size_t moetrace_capi_check(const moetrace_options* options);
size_t moetrace_capi_check(const moetrace_options* options) {
  return options != NULL ? sizeof *options : 0;
}
