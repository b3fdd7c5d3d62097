// abi.h must stand alone in C++20.
#include <type_traits>

#include "shm/abi_layout.h"

static_assert(std::is_trivially_copyable_v<moetrace_ring_header> &&
                  std::is_standard_layout_v<moetrace_ring_header>,
              "it is copied out of a mapping as bytes");
static_assert(std::is_trivially_copyable_v<moetrace_ctl> &&
              std::is_standard_layout_v<moetrace_ctl>);
