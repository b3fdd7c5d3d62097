// What the tests of the C API share.
#pragma once

#include <stdexcept>

#include "producer/producer.h"
#include "producer/test_segment.hpp"
#include "shm/collector_segment.hpp"

namespace moetrace {

// A ring directory, and producers of two layers of eight experts with top-2.
class CApi : public ::testing::Test {
 protected:
  moetrace_options options() const {
    moetrace_options options;
    moetrace_options_init(&options, sizeof options);
    options.directory = directory_.path().c_str();
    options.session = "test";
    options.ring_mb = 0.0625;
    options.layers = "all";
    options.sample_every = 1;
    options.num_layers = 2;
    options.num_experts = 8;
    options.top_k = 2;
    return options;
  }
  moetrace_producer* open() {
    const moetrace_options options = this->options();
    char error[256] = "";
    moetrace_producer* producer = moetrace_open(&options, error, sizeof error);
    EXPECT_NE(producer, nullptr) << error;
    return producer;
  }
  CollectorSegment collect() {
    const auto names = list_segments(directory_.path(), "test");
    if (!names || names->empty()) throw std::runtime_error("no segment");
    return std::move(*CollectorSegment::open(directory_.path(), names->front(),
                                             CollectorSegment::Access::kObserve));
  }
  // One request, one pass of two rows through both layers.
  static void run_pass(moetrace_producer* producer) {
    const std::uint64_t request = moetrace_request_begin(producer, "r0", 2, 0);
    const moetrace_span span = {request, 0, 0, 2};
    moetrace_step_begin(producer, 2, &span, 1);
    const std::int32_t ids[] = {0, 1, 2, 3};
    const float weights[] = {0.5f, 0.25f, 0.75f, 0.125f};
    for (std::uint32_t layer = 0; layer < 2; ++layer) {
      moetrace_record(producer, layer, ids, MOETRACE_INT32, weights, MOETRACE_FLOAT32, 2);
    }
    moetrace_request_end(producer, request, 1, "stop");
  }

  TestDirectory directory_;
};

}  // namespace moetrace
