// The CUDA hook records announced passes, captured, piecewise or eager, and no others.
#include <algorithm>

#include "producer/cuda/test_gpu.hpp"
#include "shm/counts_words.hpp"
#include "shm/layer_mask.hpp"

namespace moetrace::cuda {
namespace {

TEST(CudaHook, OnlyAnnouncedReplaysLeaveRecords) {
  const moetrace_ring_header header = small_header();
  GpuProducer gpu(header, kRoomy);
  const Stream stream;
  const Routing routing(header, 8);
  record_all(gpu, stream, routing, 8);  // warm-up
  const Graph graph(stream, [&] { record_all(gpu, stream, routing, 8); });
  for (int n = 0; n < 100; ++n) graph.replay(stream);
  stream.wait();
  EXPECT_TRUE(gpu.reader().routes().empty());
  EXPECT_EQ(gpu.snapshot().steps_done, 0u);

  for (std::uint32_t pass = 0; pass < 300; ++pass) {
    ASSERT_TRUE(gpu.announce(stream, 1 + pass % 8));
    graph.replay(stream);
    // A dummy pass: the step is over.
    graph.replay(stream);
  }
  stream.wait();
  const auto rows = gpu.reader().routes();
  std::size_t n = 0;
  for (std::uint32_t pass = 0; pass < 300; ++pass) {
    for (std::uint32_t layer = 0; layer < 3; ++layer) {
      for (std::uint32_t row = 0; row < 1 + pass % 8; ++row, ++n) {
        ASSERT_LT(n, rows.size());
        ASSERT_EQ(rows[n].step, pass);
        ASSERT_EQ(rows[n].layer, layer);
        ASSERT_EQ(rows[n].row, row);
      }
    }
  }
  EXPECT_EQ(n, rows.size());
  EXPECT_EQ(gpu.snapshot().steps_done, 300u);
  EXPECT_EQ(gpu.snapshot().claimed, n);
}

TEST(CudaHook, PiecewiseGraphsAndEagerLayersMix) {
  const moetrace_ring_header header = small_header();
  GpuProducer gpu(header, kRoomy);
  const Stream stream;
  const Routing routing(header, 4);
  const auto layer = [&](std::uint32_t number) {
    gpu.record(stream, number, *routing.gpu_ids, MOETRACE_INT32, *routing.gpu_weights,
               MOETRACE_FLOAT32, 4);
  };
  const Graph first(stream, [&] { layer(0); });
  const Graph third(stream, [&] { layer(2); });
  for (int pass = 0; pass < 10; ++pass) {
    gpu.announce(stream, 4);
    first.replay(stream);
    layer(1);
    third.replay(stream);
  }
  stream.wait();
  EXPECT_EQ(gpu.reader().routes().size(), 120u);
  EXPECT_EQ(gpu.snapshot().steps_done, 10u);
}

TEST(CudaHook, NothingIsAnnouncedDuringACapture) {
  GpuProducer gpu;
  const Stream stream;
  const Routing routing(small_header(), 2);
  const Graph graph(stream, [&] {
    EXPECT_FALSE(gpu.announce(stream, 2));
    record_all(gpu, stream, routing, 2);
  });
  EXPECT_EQ(gpu.host().steps, 0u);
  graph.replay(stream);
  stream.wait();
  EXPECT_TRUE(gpu.reader().routes().empty());
}

TEST(CudaHook, WithoutAProducerAGraphIsEmpty) {
  const Stream stream;
  const Graph graph(stream, [&] {
    moetrace_record_cuda(nullptr, stream, 0, nullptr, MOETRACE_INT32, nullptr, MOETRACE_FLOAT32, 1);
    moetrace_join(nullptr, stream);
  });
  EXPECT_EQ(graph.nodes(), 0u);
}

TEST(CudaHook, TheNextStepEndsOneThatBrokeOff) {
  const moetrace_ring_header header = small_header();
  GpuProducer gpu(header, kRoomy);
  const Stream stream;
  const Routing routing(header, 2);
  const auto layer = [&](std::uint32_t number) {
    gpu.record(stream, number, *routing.gpu_ids, MOETRACE_INT32, *routing.gpu_weights,
               MOETRACE_FLOAT32, 2);
  };
  gpu.announce(stream, 2);
  layer(0);
  gpu->abort_step(stream);
  // An unannounced later pass must not finish the step.
  layer(1);
  layer(2);
  stream.wait();
  EXPECT_EQ(gpu.reader().routes().size(), 2u);
  EXPECT_EQ(gpu.snapshot().steps_done, 1u);
  gpu.announce(stream, 2);
  layer(1);
  // Below the step's last layer.
  layer(0);
  layer(1);
  layer(2);
  stream.wait();
  const auto rows = gpu.reader().routes();
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[0].layer, 1u);
  EXPECT_EQ(rows[2].layer, 2u);
  EXPECT_EQ(gpu.snapshot().steps_done, 2u);
}

// A step keeps few records until it ends: once many are pending, those of earlier launches are
// published.
TEST(CudaHook, ALongStepIsReadBeforeItIsOver) {
  moetrace_ring_header header = small_header();
  header.num_layers = 4;
  header.moe_layers = header.layers_logged = first_layers(4);
  GpuProducer gpu(header, {.route_slots = 1024, .event_slots = 64, .request_slots = 4});
  const Stream stream;
  const Routing routing(header, 256);
  const auto step = [&](std::uint32_t rows) {
    gpu.announce(stream, rows);
    std::vector<std::size_t> came;
    for (std::uint32_t layer = 0; layer < 4; ++layer) {
      gpu.record(stream, layer, *routing.gpu_ids, MOETRACE_INT32, *routing.gpu_weights,
                 MOETRACE_FLOAT32, rows);
      stream.wait();
      came.push_back(gpu.reader().routes().size());
    }
    return came;
  };
  using Came = std::vector<std::size_t>;
  EXPECT_EQ(step(256), (Came{0, 256, 256, 512}));
  EXPECT_EQ(step(255), (Came{0, 0, 510, 510}));
  EXPECT_EQ(step(10), (Came{0, 0, 0, 40}));
  EXPECT_EQ(gpu.snapshot().claimed, 4u * (256 + 255 + 10));
  EXPECT_EQ(gpu.snapshot().dropped, 0u);
}

// The stream's next work of the hook waits for an unjoined branch: the next step, or a layer of the
// same step that is recorded in line.
TEST(CudaHook, AnUnjoinedBranchIsWaitedFor) {
  const moetrace_ring_header header = small_header();
  GpuProducer gpu(header, kRoomy);
  const Stream stream;
  const Routing routing(header, 300);
  const auto layer = [&](std::uint32_t number, Where where) {
    gpu->device_hook()->record(stream, number, routing.gpu_ids->data(), MOETRACE_INT32,
                               routing.gpu_weights->data(), MOETRACE_FLOAT32, 300, where);
  };
  for (std::uint32_t pass = 0; pass < 100; ++pass) {
    gpu.announce(stream, 300);
    layer(0, Where::kBranch);
    if (pass % 2 == 0) {
      layer(1, Where::kInLine);
      layer(2, Where::kBranch);
    }
    gpu.announce(stream, 0);
    stream.wait();
    const auto rows = gpu.reader().routes();
    ASSERT_EQ(rows.size(), pass % 2 == 0 ? 900u : 300u);
    for (std::uint32_t n = 0; n < rows.size(); ++n) {
      ASSERT_EQ(rows[n].layer, n / 300);
      ASSERT_EQ(rows[n].row, n % 300);
    }
  }
  EXPECT_TRUE(gpu->device_hook()->failure().empty()) << gpu->device_hook()->failure();
}

// A capture in between does not make the hook forget an unjoined branch.
TEST(CudaHook, ABranchBeforeACaptureIsWaitedFor) {
  const moetrace_ring_header header = small_header();
  GpuProducer gpu(header, kRoomy);
  const Stream stream;
  const Routing routing(header, 300);
  for (int pass = 0; pass < 50; ++pass) {
    gpu.announce(stream, 300);
    gpu->device_hook()->record(stream, 0, routing.gpu_ids->data(), MOETRACE_INT32,
                               routing.gpu_weights->data(), MOETRACE_FLOAT32, 300, Where::kBranch);
    const Graph graph(stream, [&] { record_all(gpu, stream, routing, 300); });
    gpu.announce(stream, 300);
    graph.replay(stream);
    stream.wait();
    ASSERT_EQ(gpu.reader().routes().size(), 1200u);
  }
  EXPECT_TRUE(gpu->device_hook()->failure().empty()) << gpu->device_hook()->failure();
}

// A producer's memory is ready once it is open.
TEST(CudaHook, TheFirstStepFindsEverythingReady) {
  const moetrace_ring_header header = small_header();
  const Stream stream;
  const Routing routing(header, 8);
  for (int n = 0; n < 20; ++n) {
    GpuProducer gpu(header, kRoomy);
    gpu.announce(stream, 8);
    record_all(gpu, stream, routing, 8);
    stream.wait();
    ASSERT_EQ(gpu.reader().routes().size(), 24u);
    gpu->device_hook()->close();
    const auto counts = gpu.counts();
    std::uint64_t counted = 0;
    for (const std::uint64_t count : counts) counted += count;
    const auto valid = std::count_if(routing.ids.begin(), routing.ids.end(),
                                     [](std::int32_t id) { return id >= 0 && id < 8; });
    ASSERT_EQ(counted, 3u * static_cast<std::uint64_t>(valid));
  }
}

TEST(CudaHook, OneJoinClosesTheBranchesOfAllLayers) {
  const moetrace_ring_header header = small_header();
  GpuProducer gpu(header, kRoomy);
  const Stream stream;
  const Routing routing(header, 2);
  const Graph graph(stream, [&] {
    for (std::uint32_t layer = 0; layer < 3; ++layer) {
      gpu->device_hook()->record(stream, layer, routing.gpu_ids->data(), MOETRACE_INT32,
                                 routing.gpu_weights->data(), MOETRACE_FLOAT32, 2, Where::kBranch);
    }
    gpu->device_hook()->join(stream);
    // Nothing is left to join.
    gpu->device_hook()->join(stream);
  });
  for (int pass = 0; pass < 50; ++pass) {
    gpu.announce(stream, 2);
    graph.replay(stream);
  }
  stream.wait();
  EXPECT_EQ(gpu.reader().routes().size(), 300u);
  EXPECT_TRUE(gpu->device_hook()->failure().empty()) << gpu->device_hook()->failure();
}

TEST(CudaHook, ABrokenCaptureDoesNoHarm) {
  const moetrace_ring_header header = small_header();
  GpuProducer gpu(header, kRoomy);
  const Stream stream;
  const Routing routing(header, 2);
  cudaGraph_t graph = nullptr;
  ASSERT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  gpu->device_hook()->record(stream, 0, routing.gpu_ids->data(), MOETRACE_INT32,
                             routing.gpu_weights->data(), MOETRACE_FLOAT32, 2, Where::kBranch);
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureUnjoined);
  cudaGetLastError();
  gpu.announce(stream, 2);
  record_all(gpu, stream, routing, 2);
  stream.wait();
  EXPECT_EQ(gpu.reader().routes().size(), 6u);
  EXPECT_TRUE(gpu->device_hook()->failure().empty()) << gpu->device_hook()->failure();
}

TEST(CudaHook, MirroredCountsAreExactAsOfTheirStep) {
  const moetrace_ring_header header = small_header();
  GpuProducer gpu(header, kRoomy);
  const Stream stream;
  const Routing routing(header, 8);
  std::vector<std::uint64_t> of_a_pass(std::size_t{header.num_layers} * header.num_experts);
  for (const std::int32_t id : routing.ids) {
    for (std::size_t cell = 0; cell < of_a_pass.size(); cell += header.num_experts) {
      if (id >= 0 && id < static_cast<std::int32_t>(header.num_experts))
        ++of_a_pass[cell + static_cast<std::size_t>(id)];
    }
  }
  const auto expect_mirrored = [&](std::uint64_t version, std::uint64_t steps) {
    stream.wait();
    std::vector<std::uint64_t> expected;
    for (const std::uint64_t count : of_a_pass) expected.push_back(steps * count);
    const auto seen = read_counts(gpu->map());
    ASSERT_TRUE(seen);
    EXPECT_EQ(seen->version, version);
    EXPECT_EQ(seen->steps_done, steps);
    EXPECT_EQ(seen->table, expected);
  };
  const auto announce_at = [&](std::int64_t time_ns) {
    StepBlock block = gpu->announcer().announce(8, {});
    block.time_ns = time_ns;
    gpu->device_hook()->announce(stream, block);
  };
  // At most every 250 ms, together with an announcement, and exact as of the passes before it.
  const std::int64_t times[] = {0, 249'999'999, 250'000'000, 499'999'999, 500'000'000};
  const std::uint64_t mirrored[][2] = {{0, 0}, {0, 0}, {2, 2}, {2, 2}, {4, 4}};
  for (std::size_t pass = 0; pass < std::size(times); ++pass) {
    announce_at(times[pass]);
    expect_mirrored(mirrored[pass][0], mirrored[pass][1]);
    record_all(gpu, stream, routing, 8);
  }
  gpu->device_hook()->close();
  expect_mirrored(6, 5);
}

TEST(CudaHook, ControlWordsAreFollowed) {
  moetrace_ring_header header = small_header();
  header.sample_every = 2;
  GpuProducer gpu(header, kRoomy);
  const Stream stream;
  const Routing routing(header, 3);
  const Graph graph(stream, [&] { record_all(gpu, stream, routing, 3); });
  const auto pass = [&] {
    const bool records = gpu.announce(stream, 3);
    graph.replay(stream);
    stream.wait();
    EXPECT_EQ(gpu.reader().routes().size(),
              records ? 3u * count_layers(*parse_layers("all", 3)) : 0u);
    return records;
  };
  EXPECT_TRUE(pass());
  EXPECT_FALSE(pass());
  EXPECT_EQ(gpu.snapshot().steps_done, 2u) << "a step that is only counted ends too";
  write_control(gpu->map(), {true, 1, *parse_layers("1", 3)});
  ASSERT_TRUE(gpu.announce(stream, 3));
  graph.replay(stream);
  stream.wait();
  const auto rows = gpu.reader().routes();
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[0].layer, 1u);
  write_control(gpu->map(), {false, 1, *parse_layers("all", 3)});
  EXPECT_FALSE(gpu.announce(stream, 3));
  graph.replay(stream);
  write_control(gpu->map(), {true, 1, {}});
  // Without any layer.
  EXPECT_TRUE(gpu.announce(stream, 3));
  graph.replay(stream);
  stream.wait();
  EXPECT_TRUE(gpu.reader().routes().empty());
  EXPECT_EQ(gpu.snapshot().steps_done, 4u);
  EXPECT_EQ(gpu.snapshot().dropped, 0u) << "a row that is only counted is not dropped";
  gpu->device_hook()->close();
  std::uint64_t counted = 0;
  for (const std::uint64_t count : gpu.counts()) counted += count;
  std::uint64_t valid = 0;
  for (const std::int32_t id : routing.ids) valid += id >= 0 && id < 8;
  EXPECT_EQ(counted, valid * (3 + 3 + 1));
}

}  // namespace
}  // namespace moetrace::cuda
