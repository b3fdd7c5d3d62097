// Records in files that other programs have written around them.
#pragma once

#include <string>

#include "producer/peers/peer.hpp"

namespace moetrace::peers {

// Finds the records in all files below `folder`, file by file in the order of their names.
void read_files(const std::string& folder, Checker& checker);

}  // namespace moetrace::peers
