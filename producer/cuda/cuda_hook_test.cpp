// The CUDA hook on a GPU. What it should write is what the host's hook writes of the same tensors.
#include <sys/wait.h>
#include <unistd.h>

#include <limits>
#include <random>

#include "producer/cuda/test_gpu.hpp"
#include "producer/layer_mask.hpp"

namespace moetrace::cuda {
namespace {

using Where = DeviceHook::Where;

// Routing of three layers, top-k of `header`, in both memories.
struct Routing {
  Routing(const moetrace_ring_header& header, std::uint32_t rows, unsigned seed = 1)
      : ids(std::size_t{rows} * header.top_k), weights(ids.size()) {
    std::mt19937 random(seed);
    for (std::size_t n = 0; n < ids.size(); ++n) {
      // Also some that are none.
      ids[n] = static_cast<std::int32_t>(random() % (header.num_experts + 2)) - 1;
      weights[n] = static_cast<float>(random()) / 4e9f;
    }
    gpu_ids = std::make_unique<OnGpu<std::int32_t>>(ids);
    gpu_weights = std::make_unique<OnGpu<float>>(weights);
  }
  std::vector<std::int32_t> ids;
  std::vector<float> weights;
  std::unique_ptr<OnGpu<std::int32_t>> gpu_ids;
  std::unique_ptr<OnGpu<float>> gpu_weights;
};

void record_all(const GpuProducer& gpu, cudaStream_t stream, const Routing& routing,
                std::uint32_t rows, Where where = Where::kBranch) {
  const std::uint32_t layers = gpu->map().header().num_layers;
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    gpu.record(stream, layer, *routing.gpu_ids, MOETRACE_INT32, *routing.gpu_weights,
               MOETRACE_FLOAT32, rows, where);
  }
}

moetrace_ring_header header_of(std::uint32_t top_k, std::uint32_t experts) {
  moetrace_ring_header header = small_header(top_k);
  header.num_experts = experts;
  return header;
}

constexpr SegmentSizes kRoomy{.route_slots = 1 << 14, .event_slots = 1024, .request_slots = 4};

// Both hooks get the same passes; every byte of every record, the account and the counts agree.
void expect_like_host(const moetrace_ring_header& header, std::uint32_t rows, Where where) {
  SCOPED_TRACE("top-k " + std::to_string(header.top_k) + ", " + std::to_string(rows) + " rows");
  GpuProducer gpu(header, kRoomy);
  Bench host(header, kRoomy);
  const Stream stream;
  for (unsigned pass = 0; pass < 3; ++pass) {
    const Routing routing(header, rows, pass + 1);
    ASSERT_TRUE(gpu.announce(stream, rows));
    host.hook.arm(host.announcer.announce(rows, {}));
    record_all(gpu, stream, routing, rows, where);
    for (std::uint32_t layer = 0; layer < header.num_layers; ++layer) {
      host.hook.record(layer, routing.ids.data(), MOETRACE_INT32, routing.weights.data(),
                       MOETRACE_FLOAT32, rows);
    }
    stream.wait();
    ASSERT_TRUE(gpu.reader().routes() == host.reader.routes());
    ASSERT_EQ(gpu.snapshot(), host.snapshot().payload);
  }
  gpu->device_hook()->close();
  host.hook.close();
  const std::uint64_t* table = host.map().counts();
  EXPECT_EQ(gpu.counts(),
            (std::vector<std::uint64_t>{table, table + header.num_layers * header.num_experts}));
}

TEST(CudaHook, WritesWhatTheHostHookWrites) {
  for (const std::uint32_t top_k : {1u, 2u, 4u, 8u, 9u, 16u, 17u, 24u, 32u}) {
    for (const std::uint32_t rows : {1u, 3u, 64u, 257u, 1000u})
      expect_like_host(header_of(top_k, 60), rows, Where::kBranch);
  }
}

TEST(CudaHook, WritesTheSameInLine) {
  for (const std::uint32_t rows : {1u, 256u, 1000u})
    expect_like_host(header_of(4, 60), rows, Where::kInLine);
}

TEST(CudaHook, CountsMoreExpertsThanSharedMemoryHolds) {
  expect_like_host(header_of(8, 65535), 300, Where::kBranch);
}

template <class Id, class Weight>
void expect_types_like_host(moetrace_type id_type, moetrace_type weight_type, bool known) {
  constexpr std::uint32_t kRows = 70;
  const moetrace_ring_header header = header_of(6, 60);
  std::vector<Id> ids(kRows * 6);
  std::vector<Weight> weights(ids.size());
  std::mt19937 random(7);
  for (std::size_t n = 0; n < ids.size(); ++n) {
    ids[n] = n % 13 == 0 ? static_cast<Id>(-1) : static_cast<Id>(random() % 60);
    if constexpr (std::is_same_v<Weight, float>) {
      weights[n] = static_cast<float>(random());
    } else {
      weights[n] = static_cast<Weight>(random());  // any bits, also NaN and subnormal
    }
  }
  GpuProducer gpu(header, kRoomy);
  Bench host(header, kRoomy);
  const Stream stream;
  const OnGpu<Id> gpu_ids(ids);
  const OnGpu<Weight> gpu_weights(weights);
  gpu.announce(stream, kRows);
  host.hook.arm(host.announcer.announce(kRows, {}));
  gpu->device_hook()->record(stream, 1, gpu_ids.data(), id_type,
                             known ? gpu_weights.data() : nullptr, weight_type, kRows,
                             Where::kBranch);
  gpu->device_hook()->join(stream);
  gpu->abort_step(stream);  // one layer of three, so the step does not end by itself
  host.hook.record(1, ids.data(), id_type, known ? weights.data() : nullptr, weight_type, kRows);
  stream.wait();
  const auto expected = host.reader.routes();
  const auto found = gpu.reader().routes();
  ASSERT_EQ(found.size(), kRows);
  for (std::size_t n = 0; n < kRows; ++n) {
    EXPECT_EQ(found[n].expert, expected[n].expert);
    for (std::size_t k = 0; k < 8; ++k) {
      const float a = found[n].weight[k];
      const float b = expected[n].weight[k];
      // A NaN may change its payload on the way from 16 to 32 bits.
      EXPECT_TRUE(a == b || (std::isnan(a) && std::isnan(b))) << a << " and " << b;
    }
  }
}

TEST(CudaHook, AllTypes) {
  expect_types_like_host<std::int16_t, float>(MOETRACE_INT16, MOETRACE_FLOAT32, true);
  expect_types_like_host<std::int32_t, std::uint16_t>(MOETRACE_INT32, MOETRACE_BFLOAT16, true);
  expect_types_like_host<std::int64_t, std::uint16_t>(MOETRACE_INT64, MOETRACE_FLOAT16, true);
  expect_types_like_host<std::uint32_t, float>(MOETRACE_UINT32, MOETRACE_FLOAT32, true);
  expect_types_like_host<std::int32_t, float>(MOETRACE_INT32, MOETRACE_FLOAT32, false);
}

TEST(CudaHook, PaddingRowsLeaveNothing) {
  const moetrace_ring_header header = small_header();
  GpuProducer gpu(header);
  const Stream stream;
  Routing routing(header, 8);
  for (std::size_t n = 5 * 4; n < routing.weights.size(); ++n)
    routing.weights[n] = std::numeric_limits<float>::quiet_NaN();
  routing.gpu_weights->set(routing.weights);
  gpu.announce(stream, 5);
  record_all(gpu, stream, routing, 8);
  stream.wait();
  const auto rows = gpu.reader().routes();
  ASSERT_EQ(rows.size(), 15u);
  for (const RouteRow& row : rows) {
    EXPECT_LT(row.row, 5u);
    for (const float weight : row.weight) EXPECT_FALSE(std::isnan(weight));
  }
}

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
  EXPECT_EQ(gpu.snapshot()[0], 0u);

  for (std::uint32_t pass = 0; pass < 300; ++pass) {
    ASSERT_TRUE(gpu.announce(stream, 1 + pass % 8));
    graph.replay(stream);
    graph.replay(stream);  // a dummy pass: the step is over
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
  EXPECT_EQ(gpu.snapshot()[0], 300u);
  EXPECT_EQ(gpu.snapshot()[1], n);
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
  EXPECT_EQ(gpu.snapshot()[0], 10u);
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

// 64 KiB are 1024 records; nobody reads.
TEST(CudaHook, AFullRingDropsAndCountsExactly) {
  const moetrace_ring_header header = small_header();
  GpuProducer gpu(header, {.route_slots = 1024, .event_slots = 1024, .request_slots = 4});
  const Stream stream;
  const Routing routing(header, 300);
  for (int pass = 0; pass < 20; ++pass) {
    gpu.announce(stream, 300);
    record_all(gpu, stream, routing, 300);
  }
  stream.wait();
  EXPECT_EQ(gpu.host().attempted, 20u * 900);
  EXPECT_EQ(gpu.snapshot()[1], 1024u);
  EXPECT_EQ(gpu.snapshot()[2], 20u * 900 - 1024);
  auto rows = gpu.reader().routes();  // all are given back
  ASSERT_EQ(rows.size(), 1024u);
  EXPECT_EQ(rows.back().row, 1024u - 900 - 1);  // the newest went
  // There is room again, which the next announcement brings along.
  gpu.announce(stream, 300);
  record_all(gpu, stream, routing, 300);
  stream.wait();
  rows = gpu.reader().routes();
  ASSERT_EQ(rows.size(), 900u);
  EXPECT_EQ(rows.front().seq, 1024u);
  EXPECT_EQ(gpu.snapshot()[2], 20u * 900 - 1024);
}

// A position that can't be true must not let the GPU overwrite what nobody has read.
TEST(CudaHook, ALyingCollectorIsNotBelieved) {
  const moetrace_ring_header header = small_header();
  GpuProducer gpu(header, {.route_slots = 64, .event_slots = 1024, .request_slots = 4});
  const Stream stream;
  const Routing routing(header, 20);
  for (const std::uint64_t lie : {std::uint64_t{1000}, ~std::uint64_t{0}}) {
    SharedWord(&gpu->map().ctl()->route_consumed).store(lie, std::memory_order_release);
    for (int pass = 0; pass < 5; ++pass) {
      gpu.announce(stream, 20);
      record_all(gpu, stream, routing, 20);
    }
  }
  stream.wait();
  EXPECT_EQ(gpu.snapshot()[1], 64u);
  EXPECT_EQ(gpu.snapshot()[2], 10u * 60 - 64);
}

TEST(CudaHook, AStepThatBreaksOffIsOverWithTheNext) {
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
  layer(1);  // a later pass that nobody announced must not finish it
  layer(2);
  stream.wait();
  EXPECT_EQ(gpu.reader().routes().size(), 2u);
  EXPECT_EQ(gpu.snapshot()[0], 1u);
  gpu.announce(stream, 2);
  layer(1);
  layer(0);  // below the last layer seen
  layer(1);
  layer(2);
  stream.wait();
  const auto rows = gpu.reader().routes();
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[0].layer, 1u);
  EXPECT_EQ(rows[2].layer, 2u);
  EXPECT_EQ(gpu.snapshot()[0], 2u);
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
    gpu->device_hook()->join(stream);  // nothing to join
  });
  for (int pass = 0; pass < 50; ++pass) {
    gpu.announce(stream, 2);
    graph.replay(stream);
  }
  stream.wait();
  EXPECT_EQ(gpu.reader().routes().size(), 300u);
  EXPECT_TRUE(gpu->device_hook()->failure().empty()) << gpu->device_hook()->failure();
}

TEST(CudaHook, ACaptureThatBrokeOffDoesNoHarm) {
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
  EXPECT_EQ(gpu.snapshot()[0], 2u) << "a step that only counts is over, too";
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
  EXPECT_TRUE(gpu.announce(stream, 3));  // of no layers
  graph.replay(stream);
  stream.wait();
  EXPECT_TRUE(gpu.reader().routes().empty());
  EXPECT_EQ(gpu.snapshot()[0], 4u);
  gpu->device_hook()->close();
  std::uint64_t counted = 0;
  for (const std::uint64_t count : gpu.counts()) counted += count;
  std::uint64_t valid = 0;
  for (const std::int32_t id : routing.ids) valid += id >= 0 && id < 8;
  EXPECT_EQ(counted, valid * (3 + 3 + 1));
}

TEST(CudaHook, AClosedProducersGraphsLeaveNothing) {
  const moetrace_ring_header header = small_header();
  const Stream stream;
  const Routing routing(header, 2);
  auto gpu = std::make_unique<GpuProducer>(header, kRoomy);
  const Graph graph(stream, [&] { record_all(*gpu, stream, routing, 2); });
  gpu->announce(stream, 2);
  graph.replay(stream);
  gpu->announce(stream, 2);  // announced, and then the engine ends
  auto segment = CollectorSegment::open(gpu->directory().path(), (*gpu)->name(),
                                        CollectorSegment::Access::kObserve);
  ASSERT_TRUE(segment);
  gpu.reset();
  const auto snapshot = segment->map().snapshots().read();
  ASSERT_TRUE(snapshot);
  EXPECT_EQ(snapshot->payload[0], 2u);
  EXPECT_EQ(segment->map().state()->host.closed, 1u);
  for (int n = 0; n < 10; ++n) graph.replay(stream);
  stream.wait();
  EXPECT_EQ(segment->map().snapshots().read()->payload[1], 6u);
  const SegmentMap& map = segment->map();
  const RingReader<MappedRing> routes(map.route_ring(), map.header().route_slots);
  EXPECT_EQ(valid_routes_end(map, routes, 0, 100), 6u);
}

TEST(CudaHook, TwoProducersOnOneGpu) {
  const moetrace_ring_header header = small_header();
  GpuProducer one(header, kRoomy);
  GpuProducer two(header, kRoomy);
  const Stream first;
  const Stream second;
  const Routing routing(header, 16);
  const Graph graph_one(first, [&] { record_all(one, first, routing, 16); });
  const Graph graph_two(second, [&] { record_all(two, second, routing, 16); });
  for (int pass = 0; pass < 100; ++pass) {
    one.announce(first, 16);
    graph_one.replay(first);
    two.announce(second, 8);
    graph_two.replay(second);
  }
  first.wait();
  second.wait();
  EXPECT_EQ(one.reader().routes().size(), 100u * 48);
  EXPECT_EQ(two.reader().routes().size(), 100u * 24);
}

TEST(CudaHook, HostCallsOfAGpuProducerDoNothing) {
  const moetrace_ring_header header = small_header();
  GpuProducer gpu(header);
  moetrace_span span{};
  EXPECT_FALSE(gpu->begin_step(1, {&span, 1}));
  gpu->abort_step();
  EXPECT_EQ(gpu.host().steps, 0u);
}

TEST(CudaHook, AForkedChildIsDeaf) {
  const moetrace_ring_header header = small_header();
  GpuProducer gpu(header);
  const Stream stream;
  gpu.announce(stream, 1);
  const pid_t child = ::fork();
  if (child == 0) ::_exit(gpu->usable() ? 1 : 0);
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST(CudaHook, AGpuThatIsNotThereIsOneLineAndNoSegment) {
  const TestDirectory directory;
  moetrace_options options;
  moetrace_options_init(&options, sizeof options);
  options.num_layers = 1;
  options.num_experts = 8;
  options.top_k = 2;
  options.cuda_device = 99;
  options.directory = directory.path().c_str();
  char why[256] = "";
  EXPECT_EQ(moetrace_open(&options, why, sizeof why), nullptr);
  EXPECT_NE(std::string(why).find("cuda_device 99"), std::string::npos) << why;
  EXPECT_TRUE(directory.files().empty());
}

// An error of the engine's own turns the hook off and nothing else; what was announced stays
// announced, so the account closes. Last, because the context is lost.
TEST(CudaHookLast, ABrokenContextTurnsItOff) {
  const moetrace_ring_header header = small_header();
  auto gpu = std::make_unique<GpuProducer>(header, kRoomy);
  const Stream stream;
  const Routing routing(header, 2);
  gpu->announce(stream, 2);
  record_all(*gpu, stream, routing, 2);
  stream.wait();
  gpu->announce(stream, 2);
  // ids that are not there
  (*gpu)->device_hook()->record(stream, 0, reinterpret_cast<const void*>(8), MOETRACE_INT32,
                                nullptr, MOETRACE_FLOAT32, 2, Where::kInLine);
  EXPECT_NE(cudaStreamSynchronize(stream), cudaSuccess);
  cudaGetLastError();
  (*gpu)->device_hook()->record(stream, 0, routing.gpu_ids->data(), MOETRACE_INT32, nullptr,
                                MOETRACE_FLOAT32, 2, Where::kInLine);
  EXPECT_FALSE((*gpu)->device_hook()->failure().empty());
  EXPECT_FALSE(gpu->announce(stream, 2));
  EXPECT_EQ(gpu->host().attempted, 12u);
  EXPECT_EQ(gpu->snapshot()[1], 6u);
  gpu.reset();
}

}  // namespace
}  // namespace moetrace::cuda
