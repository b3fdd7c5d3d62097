// The operators' schema, kernels and checks. The engine's tests check what arrives in a trace.
#include "producer/torch/torch_op.hpp"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "producer/producer.h"

namespace moetrace {
namespace {

using Record = void(at::Tensor&, const at::Tensor&, int64_t, int64_t);

c10::TypedOperatorHandle<Record> record_op() {
  return c10::Dispatcher::singleton().findSchemaOrThrow(MOETRACE_TORCH_RECORD, "").typed<Record>();
}

// A producer in its own folder, so that no collector sees it.
class TorchOp : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "moetrace-op-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    moetrace_options options;
    moetrace_options_init(&options, sizeof options);
    options.directory = directory_.c_str();
    options.session = "op-test";
    options.ring_mb = 1;
    options.num_layers = 2;
    options.num_experts = 8;
    options.top_k = 2;
    options.layers = "all";
    options.sample_every = 1;
    char why[256] = "";
    producer_ = moetrace_open(&options, why, sizeof why);
    ASSERT_NE(producer_, nullptr) << why;
  }
  void TearDown() override {
    moetrace_close(producer_);
    std::filesystem::remove_all(directory_);
  }
  uint64_t recorded() const {
    moetrace_totals totals{};
    totals.size = sizeof totals;
    moetrace_get_totals(producer_, &totals);
    return totals.recorded;
  }
  void announce(uint32_t rows) {
    const uint64_t request = moetrace_request_begin(producer_, "r", rows, 0);
    const moetrace_span span{request, 0, 0, rows};
    moetrace_step_begin(producer_, rows, &span, 1);
  }
  int64_t handle() const { return reinterpret_cast<int64_t>(producer_); }

  std::string directory_;
  moetrace_producer* producer_ = nullptr;
};

TEST_F(TorchOp, TheSchemaDeclaresThatTheWeightsChange) {
  const auto& schema =
      c10::Dispatcher::singleton().findSchemaOrThrow(MOETRACE_TORCH_RECORD, "").schema();
  ASSERT_NE(schema.arguments()[0].alias_info(), nullptr);
  EXPECT_TRUE(schema.arguments()[0].alias_info()->isWrite());
  EXPECT_EQ(schema.arguments()[1].alias_info(), nullptr);
  EXPECT_TRUE(schema.returns().empty());
}

TEST_F(TorchOp, RecordsAnnouncedRowsOfEveryType) {
  const std::vector<at::ScalarType> id_types = {at::kShort, at::kInt, at::kLong};
  const std::vector<at::ScalarType> weight_types = {at::kFloat, at::kBFloat16, at::kHalf};
  uint64_t expected = 0;
  for (const auto id_type : id_types) {
    for (const auto weight_type : weight_types) {
      announce(3);
      at::Tensor weights = at::full({3, 2}, 0.25, at::TensorOptions().dtype(weight_type));
      const at::Tensor before = weights.clone();
      const at::Tensor ids = at::ones({3, 2}, at::TensorOptions().dtype(id_type));
      record_op().call(weights, ids, 0, handle());
      record_op().call(weights, ids, 1, handle());
      expected += 6;
      EXPECT_EQ(recorded(), expected);
      EXPECT_TRUE(at::equal(weights, before));
    }
  }
}

// So that the same model code runs on a CPU.
TEST_F(TorchOp, OnACpuABranchIsAPlainRecord) {
  announce(3);
  at::Tensor weights = at::ones({3, 2});
  const at::Tensor ids = at::ones({3, 2}, at::kLong);
  auto& dispatcher = c10::Dispatcher::singleton();
  dispatcher.findSchemaOrThrow("moetrace::record_branch", "")
      .typed<Record>()
      .call(weights, ids, 0, handle());
  at::Tensor out = at::zeros({3});
  dispatcher.findSchemaOrThrow("moetrace::join", "")
      .typed<void(at::Tensor&, const at::Tensor&, const at::Tensor&, int64_t)>()
      .call(out, weights, ids, handle());
  EXPECT_EQ(recorded(), 3u);
  EXPECT_TRUE(at::equal(out, at::zeros({3})));
}

TEST_F(TorchOp, UnannouncedPassesAndNoProducerLeaveNothing) {
  at::Tensor weights = at::ones({3, 2});
  const at::Tensor ids = at::ones({3, 2}, at::kLong);
  record_op().call(weights, ids, 0, handle());
  record_op().call(weights, ids, 0, 0);
  EXPECT_EQ(recorded(), 0u);
}

TEST_F(TorchOp, MetaTensorsLeaveNothing) {
  announce(3);
  at::Tensor weights = at::empty({3, 2}, at::TensorOptions().device(at::kMeta));
  const at::Tensor ids = at::empty({3, 2}, at::TensorOptions().dtype(at::kLong).device(at::kMeta));
  record_op().call(weights, ids, 0, handle());
  EXPECT_EQ(recorded(), 0u);
}

TEST_F(TorchOp, WrongTensorsThrowAndRecordNothing) {
  announce(3);
  at::Tensor weights = at::ones({3, 2});
  at::Tensor flat = at::ones({6});
  at::Tensor integers = at::ones({3, 2}, at::kInt);
  const at::Tensor ids = at::ones({3, 2}, at::kLong);
  EXPECT_THROW(record_op().call(flat, ids, 0, handle()), c10::Error);
  EXPECT_THROW(record_op().call(weights, at::ones({3, 3}, at::kLong), 0, handle()), c10::Error);
  EXPECT_THROW(record_op().call(weights, at::ones({3, 2}), 0, handle()), c10::Error);
  EXPECT_THROW(record_op().call(integers, ids, 0, handle()), c10::Error);
  EXPECT_THROW(record_op().call(weights, ids, -1, handle()), c10::Error);
  EXPECT_THROW(record_op().call(weights, ids, 256, handle()), c10::Error);
  EXPECT_EQ(recorded(), 0u);
}

}  // namespace
}  // namespace moetrace
