// A producer's segment in a test's directory, how a collector opens it, and files like it.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <stdexcept>
#include <string>
#include <utility>

#include "shm/collector_segment.hpp"
#include "shm/producer_segment.hpp"
#include "shm/test_directory.hpp"

namespace moetrace {

inline constexpr const char* kTraceId = "01234567-89ab-cdef-0123-456789abcdef";

// Makes a file that is no segment's.
inline void touch(const std::string& path) {
  std::ofstream(path) << "x";
}

inline ProducerSegment make_segment(const TestDirectory& directory,
                                    const SegmentSizes& sizes = kSmallSizes) {
  auto made = ProducerSegment::create(directory.path(), "default", small_header(), sizes);
  if (!made) throw std::runtime_error(made.error().message);
  return std::move(*made);
}

inline Result<CollectorSegment> open_segment(
    const TestDirectory& directory, const SegmentName& name,
    CollectorSegment::Access access = CollectorSegment::Access::kCollect) {
  return CollectorSegment::open(directory.path(), name, access);
}

// Overwrites the bytes of a file from `offset` on.
template <class T>
void patch(const std::string& path, std::size_t offset, const T& value) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(offset));
  file.write(reinterpret_cast<const char*>(&value), sizeof value);
  ASSERT_TRUE(file.flush()) << path;
}

}  // namespace moetrace
