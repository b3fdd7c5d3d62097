// The CUDA hook writes the same as the host hook does from the same tensors.
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "producer/cuda/test_gpu.hpp"
#include "shm/layer_mask.hpp"

namespace moetrace::cuda {
namespace {

moetrace_ring_header header_of(std::uint32_t top_k, std::uint32_t experts) {
  moetrace_ring_header header = small_header(top_k);
  header.num_experts = experts;
  return header;
}

// Gives both hooks the same passes and compares every byte of every record, the snapshots and the
// counts.
void expect_like_host(const moetrace_ring_header& header, std::uint32_t rows, Where where,
                      const std::vector<moetrace_layer_entry>& layers = {}) {
  SCOPED_TRACE("top-k " + std::to_string(header.top_k) + ", " + std::to_string(rows) + " rows");
  GpuProducer gpu(header, kRoomy, layers);
  Bench host(header, kRoomy, layers);
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
    ASSERT_EQ(gpu.snapshot().steps_done, host.snapshot().steps_done);
    ASSERT_EQ(gpu.snapshot().claimed, host.snapshot().claimed);
    ASSERT_EQ(gpu.snapshot().dropped, host.snapshot().dropped);
  }
  gpu->device_hook()->close();
  host.hook.close();
  const std::uint64_t* table = host.map().counts();
  EXPECT_EQ(gpu.counts(),
            (std::vector<std::uint64_t>{table, table + header.num_layers * header.num_experts}));
}

TEST(CudaHook, WritesWhatTheHostHookWrites) {
  for (const std::uint32_t top_k : {1u, 2u, 4u, 8u, 9u, 16u, 17u, 24u, 32u}) {
    // From one block with few threads to several blocks.
    for (const std::uint32_t rows : {1u, 3u, 64u, 128u, 129u, 256u, 257u, 512u, 513u, 1000u})
      expect_like_host(header_of(top_k, 60), rows, Where::kBranch);
  }
}

TEST(CudaHook, WritesTheSameForLayersThatDiffer) {
  std::vector<moetrace_layer_entry> layers(3);
  layers[0].experts = 40;
  layers[0].zero_experts = 8;
  layers[0].flags = MOETRACE_LAYER_ZERO_EXPERTS_KNOWN;
  for (const std::uint32_t top_k : {8u, 12u}) {
    // Of 4 ids some loads are vectors, of 3 none.
    for (const std::uint32_t second : {4u, 3u, 1u}) {
      layers[1].top_k = second;
      for (const Where where : {Where::kBranch, Where::kDeferred, Where::kInLine}) {
        for (const std::uint32_t rows : {1u, 70u, 1100u})
          expect_like_host(header_of(top_k, 60), rows, where, layers);
      }
    }
  }
}

TEST(CudaHook, WritesTheSameForEveryTopK) {
  for (std::uint32_t top_k = 1; top_k <= MOETRACE_MAX_TOP_K; ++top_k) {
    expect_like_host(header_of(top_k, 60), 130, Where::kBranch);
    expect_like_host(header_of(top_k, 60), 70, Where::kDeferred);
  }
}

TEST(CudaHook, WritesTheSameOfAllLayersAtOnce) {
  for (const std::uint32_t top_k : {1u, 2u, 4u, 8u, 9u, 16u, 17u, 24u, 32u}) {
    for (const std::uint32_t rows : {1u, 3u, 64u, 257u, 1000u, 1023u, 1024u})
      expect_like_host(header_of(top_k, 60), rows, Where::kDeferred);
  }
}

TEST(CudaHook, WritesTheSameOfMoreLayersThanALaunchTakes) {
  moetrace_ring_header header = header_of(4, 60);
  header.num_layers = MOETRACE_MAX_LAYERS;
  header.moe_layers = header.layers_logged = first_layers(header.num_layers);
  for (const std::uint32_t rows : {1u, 5u, 60u}) expect_like_host(header, rows, Where::kDeferred);
}

TEST(CudaHook, WritesTheSameInLine) {
  for (const std::uint32_t rows : {1u, 256u, 400u, 1000u})
    expect_like_host(header_of(4, 60), rows, Where::kInLine);
  // Records of one to four units. With 3 units a block does not hold a whole number of records.
  for (const std::uint32_t top_k : {8u, 9u, 17u, 32u}) {
    for (const std::uint32_t rows : {31u, 256u, 1023u, 1024u, 1500u})
      expect_like_host(header_of(top_k, 60), rows, Where::kInLine);
  }
}

TEST(CudaHook, CountsInSharedMemoryOrNot) {
  for (const std::uint32_t experts : {1024u, 1025u})
    expect_like_host(header_of(4, experts), 1100, Where::kInLine);
  for (const std::uint32_t experts : {4096u, 4097u})
    expect_like_host(header_of(4, experts), 1100, Where::kBranch);
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
      // Any bits, NaN and subnormal numbers included.
      weights[n] = static_cast<Weight>(random());
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
  // One layer of three: the step does not end by itself.
  gpu->abort_step(stream);
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
      // The conversion from 16 to 32 bits may change a NaN's payload.
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
  for (const std::uint32_t padded : {8u, 200u, 400u, 600u}) {
    const std::uint32_t real = padded * 5 / 8;
    GpuProducer gpu(header, kRoomy);
    const Stream stream;
    Routing routing(header, padded);
    for (std::size_t n = real * 4; n < routing.weights.size(); ++n)
      routing.weights[n] = std::numeric_limits<float>::quiet_NaN();
    routing.gpu_weights->set(routing.weights);
    gpu.announce(stream, real);
    record_all(gpu, stream, routing, padded);
    stream.wait();
    const auto rows = gpu.reader().routes();
    ASSERT_EQ(rows.size(), 3u * real);
    for (const RouteRow& row : rows) {
      EXPECT_LT(row.row, real);
      for (const float weight : row.weight) EXPECT_FALSE(std::isnan(weight));
    }
  }
}

}  // namespace
}  // namespace moetrace::cuda
