// The CUDA model compared with transformers' float32 model, with itself in other shapes of the same
// pass, and with and without tracing.
#include "engine/cuda/cuda_model.hpp"

#include <cuda_runtime.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "engine/cuda/cuda_tracer.hpp"
#include "engine/cuda/device_array.hpp"
#include "engine/generate.hpp"
#include "engine/golden_data.hpp"
#include "engine/init_model.hpp"
#include "producer/cuda/bench_drain.hpp"
#include "shm/test_directory.hpp"

namespace moetrace::engine {
namespace {

using gpu::CudaModel;
using gpu::NumberType;

// Copies the routing to other device memory, which a graph can do too.
class DeviceRecorder final : public RouteRecorder {
 public:
  DeviceRecorder(const ModelConfig& config, bool in_graphs)
      : in_graphs_(in_graphs),
        ids_(config.num_layers * kMost),
        weights_(config.num_layers * kMost) {
    for (int64_t layer = 0; layer < config.num_layers; ++layer) {
      if (config.is_moe_layer(layer)) layers_.push_back(layer);
    }
  }
  When when() const override { return in_graphs_ ? When::kInPass : When::kInEagerPass; }

  using RouterHook::routed;
  void routed(int64_t layer, const DeviceRoutes& routes, CUstream_st* stream) override {
    const auto bytes = static_cast<size_t>(std::min(routes.rows * routes.top_k, kMost)) * 4;
    gpu::check(cudaMemcpyAsync(ids_.get() + layer * kMost, routes.ids, bytes,
                               cudaMemcpyDeviceToDevice, stream),
               "copying ids");
    gpu::check(cudaMemcpyAsync(weights_.get() + layer * kMost, routes.weights, bytes,
                               cudaMemcpyDeviceToDevice, stream),
               "copying weights");
  }

  std::vector<RecordedLayer> take() override {
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    std::vector<RecordedLayer> taken;
    for (const int64_t layer : layers_) {
      std::vector<int32_t> ids(kMost);
      std::vector<float> weights(kMost);
      EXPECT_EQ(cudaMemcpy(ids.data(), ids_.get() + layer * kMost, kMost * 4, cudaMemcpyDefault),
                cudaSuccess);
      EXPECT_EQ(
          cudaMemcpy(weights.data(), weights_.get() + layer * kMost, kMost * 4, cudaMemcpyDefault),
          cudaSuccess);
      taken.push_back({layer, {ids.begin(), ids.end()}, weights});
    }
    return taken;
  }

 private:
  static constexpr int64_t kMost = 4096;  // maximum rows times top_k of a layer
  bool in_graphs_;
  gpu::DeviceArray<int32_t> ids_;    // [layers, kMost]
  gpu::DeviceArray<float> weights_;  // the same
  std::vector<int64_t> layers_;
};

// A model whose widths are not multiples of the kernels' tiles.
ModelConfig odd_config() {
  ModelConfig config;
  config.model_id = "odd";
  config.dtype = Dtype::kBfloat16;
  config.vocab_size = 1001;
  config.hidden_size = 328;
  config.num_layers = 3;
  config.num_heads = 8;
  config.num_kv_heads = 2;
  config.head_dim = 32;
  config.max_positions = 4096;
  config.dense_intermediate_size = 136;
  config.moe_intermediate_size = 168;
  config.shared_intermediate_size = 296;
  config.num_experts = 13;
  config.top_k = 3;
  config.mlp_only_layers = {1};
  return config;
}

// The logits of three layers in bfloat16 differ from those in float32 by 0.02 to 0.03, as measured.
constexpr double kNarrowTolerance = 0.05;

// Sequences with a context of `first`, `first` + 7, … tokens, ready to decode.
struct Sequences {
  std::vector<std::shared_ptr<KvCache>> caches;
  std::vector<int64_t> positions;

  Sequences(const Model& model, int64_t count, int64_t first) {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t length = first + 7 * i;
      caches.push_back(model.new_cache(length + 4).value());
      positions.push_back(length);
      Pass pass;
      for (int64_t t = 0; t < length; ++t)
        pass.tokens.push_back((31 * t + 17 * i + t * t) % model.config().vocab_size);
      pass.spans.push_back({caches.back().get(), 0, length});
      EXPECT_TRUE(model.next_tokens(pass, nullptr));
    }
  }
  Pass decode(int64_t count) const {
    Pass pass;
    for (int64_t i = 0; i < count; ++i) {
      const auto at = static_cast<size_t>(i);
      pass.tokens.push_back(5 + 3 * i);
      pass.spans.push_back({caches[at].get(), positions[at], 1});
    }
    return pass;
  }
};

// ‖a - b‖ / ‖b‖ over the first a.size() numbers
double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0;
  double size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(double{a[i]} - double{b[i]}, 2);
    size += std::pow(double{b[i]}, 2);
  }
  return std::sqrt(difference / size);
}

TEST(CudaGolden, RandomModelInFloat32RoutesAsTransformers) {
  const auto golden = read_golden("random_model.golden");
  const TestFolder folder;
  ASSERT_TRUE(init_model(folder.path(), 1234, Dtype::kFloat32));
  const auto model = CudaModel::load(folder.path());
  ASSERT_TRUE(model) << model.error().message;
  for (const bool in_graphs : {false, true}) {
    DeviceRecorder recorder((*model)->config(), in_graphs);
    expect_golden(**model, golden, count_to(24), recorder);
  }
}

TEST(CudaGolden, SmallModelWithADenseLayerInFloat32) {
  const auto model =
      CudaModel::load(std::filesystem::path(kTestData) / "small_model", NumberType::kFloat32);
  ASSERT_TRUE(model) << model.error().message;
  for (const bool in_graphs : {false, true}) {
    DeviceRecorder recorder((*model)->config(), in_graphs);
    expect_golden(**model, read_golden("small_model.golden"), {0, 2, 3}, recorder);
  }
}

std::vector<int64_t> best_tokens(const std::vector<float>& logits, int64_t vocab) {
  std::vector<int64_t> best;
  for (auto row = logits.begin(); row != logits.end(); row += vocab)
    best.push_back(std::max_element(row, row + vocab) - row);
  return best;
}

TEST(CudaModel, ReplaysAreEqualToEagerPassesAndPaddingChangesNothing) {
  for (const NumberType type : {NumberType::kFloat32, NumberType::kBfloat16}) {
    const auto model = CudaModel::random(odd_config(), type, 7);
    ASSERT_TRUE(model) << model.error().message;
    const int64_t vocab = (*model)->config().vocab_size;
    const Sequences sequences(**model, 24, 5);
    for (const int64_t rows : {1, 2, 4, 8, 16, 24}) {
      DeviceRecorder eager((*model)->config(), false);
      const auto expected = (*model)->logits(sequences.decode(rows), &eager).value();
      for (int replay = 0; replay < 3; ++replay)
        EXPECT_EQ((*model)->logits(sequences.decode(rows), nullptr).value(), expected);
      EXPECT_EQ((*model)->next_tokens(sequences.decode(rows), nullptr).value(),
                best_tokens(expected, vocab));
      if (rows < 4) continue;
      const auto padded = (*model)->logits(sequences.decode(rows - 1), nullptr).value();
      const std::vector<float> whole(expected.begin(), expected.end() - vocab);
      if (type == NumberType::kBfloat16 && rows <= 8) {
        // The fused kernels sum over all experts that the pass uses. Other rows add experts, which
        // changes the order of the sum, and so the last bits.
        EXPECT_EQ(best_tokens(padded, vocab), best_tokens(whole, vocab)) << rows - 1 << " rows";
        EXPECT_LT(distance(padded, {whole.begin(), whole.end()}), 0.01) << rows - 1 << " rows";
      } else {
        EXPECT_EQ(padded, whole) << rows - 1 << " rows";
      }
    }
  }
}

// They run different kernels: decode of up to 8 rows the fused ones, the rest the wide ones.
TEST(CudaModel, DecodingAgreesWithPrefillAndBfloat16WithFloat32) {
  const auto narrow = CudaModel::random(odd_config(), NumberType::kBfloat16, 7);
  const auto exact = CudaModel::random(odd_config(), NumberType::kFloat32, 7);
  ASSERT_TRUE(narrow) << narrow.error().message;
  ASSERT_TRUE(exact) << exact.error().message;
  const Sequences of_narrow(**narrow, 24, 30);
  const Sequences of_exact(**exact, 24, 30);
  const auto expected = (*exact)->logits(of_exact.decode(24), nullptr).value();
  for (const int64_t rows : {1, 3, 8, 12, 24}) {
    EXPECT_LT(distance((*exact)->logits(of_exact.decode(rows), nullptr).value(), expected), 1e-5);
    EXPECT_LT(distance((*narrow)->logits(of_narrow.decode(rows), nullptr).value(), expected),
              kNarrowTolerance)
        << rows << " rows";
  }
  // The same token again, as the second row of a prefill span.
  for (const auto& [model, sequences, bound] :
       {std::tuple{exact->get(), &of_exact, 1e-5}, {narrow->get(), &of_narrow, kNarrowTolerance}}) {
    Pass pass = sequences->decode(1);
    const auto decoded = model->logits(pass, nullptr).value();
    const int64_t last = pass.spans[0].first_position - 1;
    pass.tokens = {(31 * last + last * last) % model->config().vocab_size, pass.tokens[0]};
    pass.spans[0] = {pass.spans[0].cache, last, 2};
    const auto both = model->logits(pass, nullptr).value();
    EXPECT_LT(distance(decoded, {both.begin() + model->config().vocab_size, both.end()}), bound);
  }
}

TEST(CudaModel, LongContextsSplitAcrossBlocks) {
  const auto narrow = CudaModel::random(odd_config(), NumberType::kBfloat16, 7);
  const auto exact = CudaModel::random(odd_config(), NumberType::kFloat32, 7);
  ASSERT_TRUE(narrow && exact);
  const Sequences of_narrow(**narrow, 2, 1500);
  const Sequences of_exact(**exact, 2, 1500);
  const auto expected = (*exact)->logits(of_exact.decode(2), nullptr).value();
  EXPECT_LT(distance((*narrow)->logits(of_narrow.decode(2), nullptr).value(), expected),
            kNarrowTolerance);
}

std::vector<std::vector<int64_t>> some_prompts() {
  return {count_to(10), count_to(4), count_to(21), count_to(33), count_to(2)};
}

std::vector<Completion> generate(const Model& model, Tracer* tracer) {
  auto generation =
      Generation::start(model, some_prompts(), {.max_new_tokens = 12, .batch = 3}, tracer);
  EXPECT_TRUE(generation);
  while (!generation->finished()) EXPECT_TRUE(generation->step());
  return generation->completions();
}

TEST(CudaTracing, TheSameTokensAndEveryRowIsRecordedOnce) {
  const TestFolder folder;
  ASSERT_TRUE(init_model(folder.path(), 1234, Dtype::kBfloat16));
  const auto model = CudaModel::load(folder.path());
  ASSERT_TRUE(model) << model.error().message;
  const auto untraced = generate(**model, nullptr);
  using Where = gpu::CudaTracer::Where;
  for (const auto where : {Where::kAfterPass, Where::kInGraph, Where::kInLine}) {
    const TestDirectory ring;  // on tmpfs, as CUDA requires
    ::setenv("MOETRACE_DIR", ring.path().c_str(), 1);
    auto tracer = gpu::CudaTracer::open((*model)->config(), 1234, 0, (*model)->stream(), where);
    ASSERT_TRUE(tracer) << tracer.error().message;
    {
      const bench::Drain drain(ring.path());
      for (int again = 0; again < 2; ++again) {  // the second time, all decode passes are replays
        const auto traced = generate(**model, tracer->get());
        for (size_t i = 0; i < traced.size(); ++i) EXPECT_EQ(traced[i].tokens, untraced[i].tokens);
      }
      uint64_t rows = 0;
      for (const Completion& one : untraced)
        rows += static_cast<uint64_t>(one.prompt_tokens) + one.tokens.size() - 1;
      drain.wait_for(2 * rows * 24);
      EXPECT_EQ(drain.records(), 2 * rows * 24);
      EXPECT_EQ(drain.dropped(), 0u);
    }
    tracer->reset();
  }
}

// Compares the records in the ring with the routing of an untraced pass.
TEST(CudaTracing, RecordsAreTheRoutesOfTheUntracedPass) {
  const auto model = CudaModel::random(odd_config(), NumberType::kBfloat16, 7);
  ASSERT_TRUE(model) << model.error().message;
  const Sequences sequences(**model, 3, 9);
  const Pass pass = sequences.decode(3);
  DeviceRecorder recorder((*model)->config(), true);
  ASSERT_TRUE((*model)->next_tokens(pass, &recorder));
  const auto expected = recorder.take();

  const TestDirectory ring;  // on tmpfs, as CUDA requires
  ::setenv("MOETRACE_DIR", ring.path().c_str(), 1);
  auto tracer = (*model)->open_tracer(1234);
  ASSERT_TRUE(tracer) << tracer.error().message;
  const auto names = list_segments(ring.path(), "default");
  ASSERT_TRUE(names && names->size() == 1);
  auto segment =
      CollectorSegment::open(ring.path(), names->front(), CollectorSegment::Access::kCollect);
  ASSERT_TRUE(segment);
  std::vector<moetrace_span> spans;
  for (uint32_t row = 0; row < 3; ++row) {
    spans.push_back({(*tracer)->begin_request("r" + std::to_string(row), 9),
                     static_cast<uint64_t>(sequences.positions[row]), row, 1});
  }
  (*tracer)->announce(3, spans);
  ASSERT_TRUE((*model)->next_tokens(pass, tracer->get()));
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);  // the records are written after the tokens

  const SegmentMap& map = segment->map();
  RingReader<MappedRing> routes(map.route_ring(), map.header().route_slots);
  ASSERT_EQ(routes.valid_end(0, 100), 6u);  // two MoE layers, three rows; the fourth is padding
  std::map<int64_t, const RecordedLayer*> of_layer;
  for (const RecordedLayer& layer : expected) of_layer[layer.layer] = &layer;
  for (uint64_t n = 0; n < 6; ++n) {
    moetrace_route_record record;
    std::memcpy(&record, routes.memory().slot(n), sizeof record);
    ASSERT_TRUE(of_layer.contains(record.head.layer));
    const RecordedLayer& layer = *of_layer[record.head.layer];
    for (size_t k = 0; k < 3; ++k) {
      EXPECT_EQ(record.expert[k], layer.ids[record.head.row * 3 + k]);
      EXPECT_EQ(record.weight[k], layer.weights[record.head.row * 3 + k]);
    }
  }
  tracer->reset();
  segment->unlink();
}

}  // namespace
}  // namespace moetrace::engine
