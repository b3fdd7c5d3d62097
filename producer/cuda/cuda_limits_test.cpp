// The CUDA hook at its limits: a full ring, a lying collector, its end, other processes, errors.
#include <sys/wait.h>
#include <unistd.h>

#include "producer/cuda/test_gpu.hpp"
#include "shm/collector_segment.hpp"
#include "shm/layer_mask.hpp"

namespace moetrace::cuda {
namespace {

// 64 KiB are 1024 records; nobody reads.
void expect_exact_drops(Where where) {
  const moetrace_ring_header header = small_header();
  GpuProducer gpu(header, {.route_slots = 1024, .event_slots = 1024, .request_slots = 4});
  const Stream stream;
  const Routing routing(header, 300);
  for (int pass = 0; pass < 20; ++pass) {
    gpu.announce(stream, 300);
    record_all(gpu, stream, routing, 300, where);
  }
  stream.wait();
  EXPECT_EQ(gpu.host().attempted, 20u * 900);
  EXPECT_EQ(gpu.snapshot().claimed, 1024u);
  EXPECT_EQ(gpu.snapshot().dropped, 20u * 900 - 1024);
  auto rows = gpu.reader().routes();  // all are given back
  ASSERT_EQ(rows.size(), 1024u);
  EXPECT_EQ(rows.back().row, 1024u - 900 - 1);  // the newest went
  // There is room again, which the next announcement brings along.
  gpu.announce(stream, 300);
  record_all(gpu, stream, routing, 300, where);
  stream.wait();
  rows = gpu.reader().routes();
  ASSERT_EQ(rows.size(), 900u);
  EXPECT_EQ(rows.front().seq, 1024u);
  EXPECT_EQ(gpu.snapshot().dropped, 20u * 900 - 1024);
}
TEST(CudaHook, AFullRingDropsAndCountsExactly) {
  expect_exact_drops(Where::kBranch);
}
TEST(CudaHook, AFullRingDropsTheSameOfDeferredLayers) {
  expect_exact_drops(Where::kDeferred);
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
  EXPECT_EQ(gpu.snapshot().claimed, 64u);
  EXPECT_EQ(gpu.snapshot().dropped, 10u * 60 - 64);
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
  const auto snapshot = read_snapshot(segment->map());
  ASSERT_TRUE(snapshot);
  EXPECT_EQ(snapshot->steps_done, 2u);
  EXPECT_EQ(segment->map().state()->host.closed, 1u);
  for (int n = 0; n < 10; ++n) graph.replay(stream);
  stream.wait();
  EXPECT_EQ(read_snapshot(segment->map())->claimed, 6u);
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

// Such as that of an allocation that may fail: the hook goes on, and the engine finds its error.
TEST(CudaHook, AnErrorThatTheEngineHasNotReadIsTheEngines) {
  GpuProducer gpu(small_header(), kRoomy);
  const Stream stream;
  const Routing routing(small_header(), 2);
  void* memory = nullptr;
  ASSERT_EQ(cudaMalloc(&memory, std::size_t{1} << 46), cudaErrorMemoryAllocation);
  gpu.announce(stream, 2);
  record_all(gpu, stream, routing, 2);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  stream.wait();
  EXPECT_TRUE(gpu->device_hook()->failure().empty()) << gpu->device_hook()->failure();
  EXPECT_EQ(gpu.reader().routes().size(), 6u);
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
  EXPECT_EQ(gpu->snapshot().claimed, 6u);
  gpu.reset();
}

}  // namespace
}  // namespace moetrace::cuda
