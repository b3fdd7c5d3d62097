// A ring directory for one test, removed with its contents afterwards.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "shm/segment_sizes.hpp"

namespace moetrace {

class TestDirectory {
 public:
  TestDirectory() {
    char name[] = "/dev/shm/moetrace-test-XXXXXX";
    if (::mkdtemp(name) == nullptr) throw std::runtime_error("mkdtemp failed");
    path_ = name;
  }
  TestDirectory(const TestDirectory&) = delete;
  TestDirectory& operator=(const TestDirectory&) = delete;
  ~TestDirectory() { std::filesystem::remove_all(path_); }

  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(path_))
      names.push_back(entry.path().filename());
    return names;
  }

 private:
  std::string path_;
};

// A header that a producer with a small model would fill in.
inline moetrace_ring_header small_header(std::uint32_t top_k = 4) {
  moetrace_ring_header header{};
  header.top_k = top_k;
  header.num_layers = 3;
  header.num_experts = 8;
  header.sample_every = 1;
  header.moe_layers.words[0] = 0b111;
  header.layers_logged.words[0] = 0b111;
  header.router_scaling = 1;
  header.world_size = 1;
  std::strcpy(header.model_id, "test/model");
  return header;
}

inline constexpr SegmentSizes kSmallSizes{.route_slots = 64, .event_slots = 64, .request_slots = 4};

}  // namespace moetrace
