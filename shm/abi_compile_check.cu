// abi.h must mean the same to host and device code.
#include "shm/abi_layout.h"

__global__ void moetrace_abi_check(moetrace_route_record* record, unsigned seq) {
  record->head.seq = seq;
}
