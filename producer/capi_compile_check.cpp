// The C API must stand alone in C++20.
#include <type_traits>

#include "producer/producer.h"

static_assert(std::is_standard_layout_v<moetrace_options>, "C programs fill it in");
