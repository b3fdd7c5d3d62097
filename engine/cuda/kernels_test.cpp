// Each kernel compared with plain loops on the host in double precision.
#include <cuda_bf16.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "engine/cuda/device_array.hpp"
#include "engine/cuda/fused_decode.hpp"
#include "engine/cuda/grouped_matmul.hpp"
#include "engine/cuda/row_kernels.hpp"

namespace moetrace::engine::gpu {
namespace {

template <class T>
class OnGpu {
 public:
  explicit OnGpu(const std::vector<T>& values)
      : size_(values.size()), array_(static_cast<int64_t>(values.size())) {
    check(cudaMemcpy(array_.get(), values.data(), size_ * sizeof(T), cudaMemcpyDefault), "copy");
  }
  // Poisoned, so that a test sees what a kernel forgets to write.
  explicit OnGpu(size_t size) : size_(size), array_(static_cast<int64_t>(size)) {
    check(cudaMemset(array_.get(), 0xff, size * sizeof(T)), "poison");
  }
  T* get() const { return array_.get(); }
  std::vector<T> read() const {
    check(cudaDeviceSynchronize(), "kernel");
    std::vector<T> values(size_);
    check(cudaMemcpy(values.data(), array_.get(), size_ * sizeof(T), cudaMemcpyDefault), "copy");
    return values;
  }

 private:
  size_t size_;
  DeviceArray<T> array_;
};

std::vector<float> random_floats(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 1);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

std::vector<__nv_bfloat16> to_bf16(const std::vector<float>& values) {
  std::vector<__nv_bfloat16> narrow;
  for (const float value : values) narrow.push_back(__float2bfloat16(value));
  return narrow;
}

std::vector<float> widened(const std::vector<__nv_bfloat16>& values) {
  std::vector<float> wide;
  for (const __nv_bfloat16 value : values) wide.push_back(__bfloat162float(value));
  return wide;
}

double distance(const std::vector<float>& a, const std::vector<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  double difference = 0;
  double size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(double{a[i]} - b[i], 2);
    size += b[i] * b[i];
  }
  return std::sqrt(difference / size);
}

TEST(Route, TakesTheLargestAndOfEqualsTheSmallerId) {
  constexpr int kExperts = 60;
  constexpr int kTopK = 4;
  std::vector<float> logits = random_floats(9 * logit_columns(kExperts), 1);
  const auto row = [&](int r) { return logits.begin() + r * logit_columns(kExperts); };
  std::fill(row(0), row(1), 0.0f);                          // all equal
  for (const int e : {59, 33, 31, 2, 1}) row(1)[e] = 9.0f;  // five equal at the top
  row(2)[kExperts] = 100.0f;  // the shared expert's gate, not an expert
  for (const bool renormalize : {false, true}) {
    OnGpu<int32_t> ids(9 * kTopK);
    OnGpu<float> weights(9 * kTopK);
    const OnGpu<float> on_gpu(logits);
    route(on_gpu.get(), kExperts, kTopK, renormalize, ids.get(), weights.get(), 9, nullptr);
    const auto got = ids.read();
    const auto got_weights = weights.read();
    for (int r = 0; r < 9; ++r) {
      std::vector<int> order(kExperts);
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(),
                       [&](int a, int b) { return row(r)[a] > row(r)[b]; });
      double sum = 0;
      double chosen = 0;
      for (int e = 0; e < kExperts; ++e) sum += std::exp(double{row(r)[e]});
      for (int k = 0; k < kTopK; ++k) chosen += std::exp(double{row(r)[order[k]]}) / sum;
      for (int k = 0; k < kTopK; ++k) {
        EXPECT_EQ(got[r * kTopK + k], order[k]) << "row " << r;
        EXPECT_NEAR(got_weights[r * kTopK + k],
                    std::exp(double{row(r)[order[k]]}) / sum / (renormalize ? chosen : 1), 1e-6);
      }
    }
  }
}

TEST(FindBest, OfEqualsTheFirst) {
  std::vector<float> logits = random_floats(3 * 10007, 2);
  logits[5000] = logits[77] = logits[10006] = 50.0f;
  logits[10007 + 10006] = 60.0f;
  std::fill(logits.begin() + 2 * 10007, logits.end(), -3.0f);
  const OnGpu<unsigned long long> best(std::vector<unsigned long long>(3, 0));
  const OnGpu<float> on_gpu(logits);
  find_best(on_gpu.get(), 10007, best.get(), 3, false, nullptr);
  const auto got = best.read();
  EXPECT_EQ(best_index(got[0]), 77);
  EXPECT_EQ(best_index(got[1]), 10006);
  EXPECT_EQ(best_index(got[2]), 0);
}

TEST(DenseGemv, MultipliesNormsAndAccumulates) {
  for (const auto& [out, in] : {std::pair{64, 2048}, {1001, 328}, {24, 40}, {4800, 2056}}) {
    const auto weight = to_bf16(random_floats(static_cast<size_t>(out * in), 3));
    const auto wide = widened(weight);
    for (const int rows : {1, 3, 8}) {
      const auto x = to_bf16(random_floats(static_cast<size_t>(rows * in), 4));
      const auto wide_x = widened(x);
      std::vector<double> expected(static_cast<size_t>(rows * out));
      for (int r = 0; r < rows; ++r) {
        for (int o = 0; o < out; ++o) {
          double sum = 0;
          for (int i = 0; i < in; ++i) sum += double{wide[o * in + i]} * wide_x[r * in + i];
          expected[r * out + o] = sum;
        }
      }
      const OnGpu<__nv_bfloat16> w(weight), on_gpu(x);
      OnGpu<float> y(static_cast<size_t>(rows * out));
      DenseGemv gemv{w.get(), out, in, nullptr, nullptr, 0, on_gpu.get(), y.get(), false};
      dense_gemv(gemv, rows, false, nullptr);
      EXPECT_LT(distance(y.read(), expected), 1e-5) << out << " " << in << " " << rows;

      gemv.accumulate = true;
      dense_gemv(gemv, rows, true, nullptr);
      for (double& value : expected) value *= 2;
      EXPECT_LT(distance(y.read(), expected), 1e-5);

      const auto hidden = random_floats(static_cast<size_t>(rows * in), 6);
      const auto norm = random_floats(static_cast<size_t>(in), 7);
      for (int r = 0; r < rows; ++r) {
        double square = 0;
        for (int i = 0; i < in; ++i) square += std::pow(double{hidden[r * in + i]}, 2);
        const double scale = 1 / std::sqrt(square / in + 1e-6);
        for (int o = 0; o < out; ++o) {
          double sum = 0;
          for (int i = 0; i < in; ++i)
            sum += double{wide[o * in + i]} * hidden[r * in + i] * scale * norm[i];
          expected[r * out + o] = sum;
        }
      }
      const OnGpu<float> h(hidden), n(norm);
      dense_gemv({w.get(), out, in, n.get(), h.get(), 1e-6f, nullptr, y.get(), false}, rows, false,
                 nullptr);
      EXPECT_LT(distance(y.read(), expected), 5e-3);
    }
  }
}

// The routed experts of all rows, on the host, with a random routing.
struct HostExperts {
  int rows, size, inner, experts, top_k;
  std::vector<float> x, gate_up, down;
  std::vector<int32_t> ids;
  std::vector<float> weights;

  HostExperts(int rows_, int size_, int inner_, int experts_, int top_k_)
      : rows(rows_), size(size_), inner(inner_), experts(experts_), top_k(top_k_) {
    x = widened(to_bf16(random_floats(static_cast<size_t>(rows) * size, 11)));
    gate_up = random_floats(static_cast<size_t>(experts) * 2 * inner * size, 12);
    down = random_floats(static_cast<size_t>(experts) * inner * size, 13);
    for (float& value : gate_up) value /= std::sqrt(static_cast<float>(size));
    for (float& value : down) value /= std::sqrt(static_cast<float>(inner));
    gate_up = widened(to_bf16(gate_up));
    down = widened(to_bf16(down));
    std::mt19937 random(14);
    for (int r = 0; r < rows; ++r) {
      std::vector<int32_t> all(static_cast<size_t>(experts));
      std::iota(all.begin(), all.end(), 0);
      std::shuffle(all.begin(), all.end(), random);
      // All rows choose expert 1: at 150 rows it has more pairs than one work item holds.
      std::iter_swap(all.begin(), std::find(all.begin(), all.end(), 1));
      ids.insert(ids.end(), all.begin(), all.begin() + top_k);
    }
    weights = random_floats(ids.size(), 15);
  }

  // The output of each pair: [rows * top_k, size].
  std::vector<double> outputs() const {
    std::vector<double> result(ids.size() * static_cast<size_t>(size));
    for (size_t pair = 0; pair < ids.size(); ++pair) {
      const float* of_x = x.data() + pair / static_cast<size_t>(top_k) * size;
      const float* of_up = gate_up.data() + static_cast<size_t>(ids[pair]) * 2 * inner * size;
      const float* of_down = down.data() + static_cast<size_t>(ids[pair]) * inner * size;
      std::vector<double> act(static_cast<size_t>(inner));
      for (int i = 0; i < inner; ++i) {
        double gate = 0;
        double up = 0;
        for (int c = 0; c < size; ++c) {
          gate += double{of_up[i * size + c]} * of_x[c];
          up += double{of_up[(inner + i) * size + c]} * of_x[c];
        }
        act[i] = gate / (1 + std::exp(-gate)) * up;
      }
      for (int o = 0; o < size; ++o) {
        double sum = 0;
        for (int i = 0; i < inner; ++i) sum += double{of_down[o * inner + i]} * act[i];
        result[pair * size + o] = sum;
      }
    }
    return result;
  }
};

template <class T>
std::vector<T> as(const std::vector<float>& values) {
  if constexpr (sizeof(T) == 2) {
    return to_bf16(values);
  } else {
    return values;
  }
}

template <class T>
double grouped_distance(NumberType type, const HostExperts& host) {
  const OnGpu<T> x(as<T>(host.x)), gate_up(as<T>(host.gate_up)), down(as<T>(host.down));
  const OnGpu<int32_t> ids(host.ids);
  const int pairs = static_cast<int>(host.ids.size());
  const int items = most_items(pairs, host.experts);
  OnGpu<int32_t> order(host.ids.size()), count(size_t{1});
  OnGpu<WorkItem> item(static_cast<size_t>(items));
  OnGpu<T> act(host.ids.size() * static_cast<size_t>(host.inner));
  OnGpu<float> routed(host.ids.size() * static_cast<size_t>(host.size));
  const Grouping grouping{order.get(), item.get(), count.get()};
  const ExpertWeights weights{gate_up.get(), down.get(), host.size, host.inner};
  group_by_expert(ids.get(), pairs, host.experts, grouping, nullptr);
  EXPECT_LE(count.read()[0], items);
  experts_up(type, weights, grouping, items, host.top_k, x.get(), act.get(), nullptr);
  experts_down(type, weights, grouping, items, act.get(), routed.get(), nullptr);
  return distance(routed.read(), host.outputs());
}

TEST(GroupedExperts, AnyRowsAndWidths) {
  for (const int rows : {1, 9, 33, 150}) {
    for (const auto& [size, inner] : {std::pair{128, 64}, {328, 168}, {40, 24}}) {
      const HostExperts host(rows, size, inner, 13, 3);
      EXPECT_LT(grouped_distance<float>(NumberType::kFloat32, host), 1e-5)
          << rows << " " << size << " " << inner;
      EXPECT_LT(grouped_distance<__nv_bfloat16>(NumberType::kBfloat16, host), 1e-2)
          << rows << " " << size << " " << inner;
    }
  }
}

}  // namespace
}  // namespace moetrace::engine::gpu
