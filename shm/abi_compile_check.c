/* abi.h must stand alone in plain C11. */
#include "shm/abi_layout.h"

extern const moetrace_ring_header* moetrace_abi_check(const moetrace_ctl* ctl);
const moetrace_ring_header* moetrace_abi_check(const moetrace_ctl* ctl) {
  return (const moetrace_ring_header*)ctl;
}
