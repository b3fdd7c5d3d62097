// JSON as configuration files have it.
#pragma once

#include <nlohmann/json.hpp>

namespace moetrace {

// Objects keep their order.
using ConfigJson = nlohmann::ordered_json;

}  // namespace moetrace
