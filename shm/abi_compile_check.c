/* abi.h and the C API must stand alone in plain C11. */
#include "producer/producer.h"
#include "shm/abi.h"

extern const moetrace_ring_header* moetrace_abi_check(const moetrace_ctl* ctl,
                                                      const moetrace_options* options);
const moetrace_ring_header* moetrace_abi_check(const moetrace_ctl* ctl,
                                               const moetrace_options* options) {
  return ctl != NULL && options != NULL ? (const moetrace_ring_header*)ctl : NULL;
}
