// Deferred layers: the CUDA hook records all layers of a pass with one kernel.
#include "producer/cuda/test_gpu.hpp"
#include "shm/layer_mask.hpp"

namespace moetrace::cuda {
namespace {

// Defers the layers [first, last) without a join.
void defer_layers(const GpuProducer& gpu, const Stream& stream, const Routing& routing,
                  std::uint32_t first, std::uint32_t last, std::uint32_t rows) {
  for (std::uint32_t layer = first; layer < last; ++layer) {
    gpu.record(stream, layer, *routing.gpu_ids, MOETRACE_INT32, *routing.gpu_weights,
               MOETRACE_FLOAT32, rows, Where::kDeferred);
  }
}

TEST(CudaHook, DeferredLayersAreOneKernel) {
  const moetrace_ring_header header = small_header();
  GpuProducer gpu(header, kRoomy);
  const Stream stream;
  const Routing routing(header, 4);
  const Graph graph(stream, [&] { record_all(gpu, stream, routing, 4, Where::kDeferred); });
  EXPECT_EQ(graph.nodes(), 1u);
  for (int pass = 0; pass < 100; ++pass) {
    gpu.announce(stream, 3);
    graph.replay(stream);
    // A dummy pass.
    graph.replay(stream);
  }
  stream.wait();
  const auto rows = gpu.reader().routes();
  ASSERT_EQ(rows.size(), 900u);
  for (std::uint32_t n = 0; n < 900; ++n) {
    ASSERT_EQ(rows[n].step, n / 9);
    ASSERT_EQ(rows[n].layer, n / 3 % 3);
    ASSERT_EQ(rows[n].row, n % 3);
  }
  EXPECT_EQ(gpu.snapshot().steps_done, 100u);
}

TEST(CudaHook, DeferredLayersOfCapturedPiecesGoWithTheLast) {
  const moetrace_ring_header header = small_header();
  GpuProducer gpu(header, kRoomy);
  const Stream stream;
  const Routing routing(header, 4);
  const Graph first(stream, [&] { defer_layers(gpu, stream, routing, 0, 1, 4); });
  const Graph second(stream, [&] { defer_layers(gpu, stream, routing, 1, 2, 4); });
  const Graph third(stream, [&] {
    defer_layers(gpu, stream, routing, 2, 3, 4);
    gpu.join(stream);
  });
  EXPECT_EQ(first.nodes() + second.nodes(), 0u);
  for (int pass = 0; pass < 10; ++pass) {
    gpu.announce(stream, 4);
    first.replay(stream);
    second.replay(stream);
    third.replay(stream);
  }
  stream.wait();
  EXPECT_EQ(gpu.reader().routes().size(), 120u);
  EXPECT_EQ(gpu.snapshot().steps_done, 10u);
}

// Captures one graph for each layer, of which only the last one joins. The earlier ones must leave
// no branch, for any number of layers and rows and any shapes.
void record_in_pieces(std::uint32_t layers, const std::function<std::uint32_t(std::uint32_t)>& rows,
                      std::size_t kernels) {
  moetrace_ring_header header = small_header();
  header.num_layers = layers;
  header.moe_layers = header.layers_logged = first_layers(layers);
  GpuProducer gpu(header, {.route_slots = 1 << 15, .event_slots = 1024, .request_slots = 4});
  const Stream stream;
  const Routing routing(header, 2000);
  std::vector<std::unique_ptr<Graph>> pieces;
  std::uint32_t least = 2000;
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    least = std::min(least, rows(layer));
    pieces.push_back(std::make_unique<Graph>(stream, [&] {
      defer_layers(gpu, stream, routing, layer, layer + 1, rows(layer));
      if (layer + 1 == layers) gpu.join(stream);
    }));
    if (layer + 1 < layers) {
      ASSERT_EQ(pieces.back()->nodes(), 0u) << layer;
    }
  }
  EXPECT_EQ(pieces.back()->nodes(), kernels);
  ASSERT_TRUE(gpu->device_hook()->failure().empty()) << gpu->device_hook()->failure();
  for (std::uint32_t pass = 0; pass < 2; ++pass) {
    gpu.announce(stream, least);
    for (const auto& piece : pieces) piece->replay(stream);
    stream.wait();
    const auto found = gpu.reader().routes();
    ASSERT_EQ(found.size(), std::size_t{layers} * least);
    for (std::size_t n = 0; n < found.size(); ++n) {
      ASSERT_EQ(found[n].step, pass);
      ASSERT_EQ(found[n].layer, n / least);
      ASSERT_EQ(found[n].row, n % least);
    }
    EXPECT_EQ(gpu.snapshot().steps_done, pass + 1);
  }
}

TEST(CudaHook, ManyDeferredLayersOfCapturedPiecesGoWithTheLast) {
  record_in_pieces(
      150, [](std::uint32_t) { return 4; }, 3);
}

TEST(CudaHook, DeferredLayersOfManyRowsInCapturedPiecesGoWithTheLast) {
  record_in_pieces(
      3, [](std::uint32_t) { return 1500; }, 3);
}

TEST(CudaHook, DeferredLayersOfOtherShapesInCapturedPiecesGoWithTheLast) {
  record_in_pieces(
      5, [](std::uint32_t layer) { return layer < 2 ? 4 : 6; }, 2);
}

// Outside a capture no kernel reads the tensors before the join.
TEST(CudaHook, DeferredLayersOfAnEagerPassGoWithTheJoin) {
  const moetrace_ring_header header = small_header();
  GpuProducer gpu(header, kRoomy);
  const Stream stream;
  const Routing routing(header, 4);
  const std::vector<float> changed(routing.weights.size(), 0.25f);
  gpu.announce(stream, 4);
  defer_layers(gpu, stream, routing, 0, 3, 4);
  routing.gpu_weights->set(changed);
  gpu.join(stream);
  stream.wait();
  const auto rows = gpu.reader().routes();
  ASSERT_EQ(rows.size(), 12u);
  for (const RouteRow& row : rows) EXPECT_EQ(row.weight[0], 0.25f);
  EXPECT_EQ(gpu.snapshot().steps_done, 1u);
}

TEST(CudaHook, DeferredLayersWithoutTheLastGoWithTheJoin) {
  const moetrace_ring_header header = small_header();
  GpuProducer gpu(header, kRoomy);
  const Stream stream;
  const Routing routing(header, 4);
  gpu.announce(stream, 4);
  defer_layers(gpu, stream, routing, 0, 1, 4);
  // Another shape needs another launch.
  defer_layers(gpu, stream, routing, 1, 2, 2);
  gpu.join(stream);
  gpu.announce(stream, 4);
  stream.wait();
  const auto rows = gpu.reader().routes();
  ASSERT_EQ(rows.size(), 6u);
  EXPECT_EQ(rows[3].layer, 0u);
  EXPECT_EQ(rows[4].layer, 1u);
  EXPECT_EQ(gpu.snapshot().steps_done, 1u);
}

// The tensors of a failed pass may be gone: no kernel reads them, and the rows count as torn.
TEST(CudaHook, DeferredLayersOfABrokenPassAreForgotten) {
  const moetrace_ring_header header = small_header();
  GpuProducer gpu(header, kRoomy);
  const Stream stream;
  const Routing routing(header, 4);
  const auto gone = [&](std::uint32_t layer) {
    gpu->device_hook()->record(stream, layer, reinterpret_cast<const void*>(16), MOETRACE_INT32,
                               reinterpret_cast<const void*>(16), MOETRACE_FLOAT32, 4,
                               Where::kDeferred);
  };
  gpu.announce(stream, 4);
  gone(0);
  gone(1);
  // The engine goes on.
  gpu.announce(stream, 4);
  record_all(gpu, stream, routing, 4, Where::kDeferred);
  // A dummy pass broke off, and another one follows.
  gone(0);
  gone(1);
  record_all(gpu, stream, routing, 4, Where::kDeferred);
  // An eager pass broke off, and the engine captures next.
  gone(0);
  {
    const Graph graph(stream, [&] {
      defer_layers(gpu, stream, routing, 1, 3, 4);
      gpu.join(stream);
    });
    gpu.announce(stream, 4);
    graph.replay(stream);
    stream.wait();
  }
  gone(0);
  gpu->abort_step(stream);
  gpu->device_hook()->join(stream);
  stream.wait();
  EXPECT_EQ(gpu.reader().routes().size(), 12u + 8u);
  EXPECT_EQ(gpu.host().attempted, 36u);
  EXPECT_TRUE(gpu->device_hook()->failure().empty()) << gpu->device_hook()->failure();
  // Closing the producer does not read them either.
  gone(0);
}

TEST(CudaHook, DeferredLayersThatAreNotSelectedAreLeftOut) {
  moetrace_ring_header header = small_header();
  GpuProducer gpu(header, kRoomy);
  const Stream stream;
  const Routing routing(header, 4);
  const Graph graph(stream, [&] { record_all(gpu, stream, routing, 4, Where::kDeferred); });
  for (const char* layers : {"0", "1", "2", "0,2", "0,1"}) {
    write_control(gpu->map(), {true, 1, *parse_layers(layers, 3)});
    ASSERT_TRUE(gpu.announce(stream, 4));
    graph.replay(stream);
    stream.wait();
    std::vector<std::uint32_t> expected;
    std::vector<std::uint32_t> found;
    for (std::uint32_t n = 0; n < 12; ++n) {
      if (has_layer(*parse_layers(layers, 3), n / 4)) expected.push_back(n / 4);
    }
    for (const RouteRow& row : gpu.reader().routes()) found.push_back(row.layer);
    EXPECT_EQ(found, expected) << layers;
  }
  EXPECT_EQ(gpu.snapshot().steps_done, 5u);
}

}  // namespace
}  // namespace moetrace::cuda
