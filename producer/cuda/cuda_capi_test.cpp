// The calls that an engine makes (producer.h), with a GPU: each way to record, captured and eager.
#include "producer/cuda/test_gpu.hpp"
#include "shm/collector_segment.hpp"

namespace moetrace::cuda {
namespace {

class CudaCApi : public ::testing::Test {
 protected:
  static constexpr std::uint32_t kLayers = 3, kRows = 4, kTopK = 4;

  void SetUp() override {
    moetrace_options options;
    moetrace_options_init(&options, sizeof options);
    options.num_layers = kLayers;
    options.num_experts = 8;
    options.top_k = kTopK;
    options.cuda_device = 0;
    options.directory = directory_.path().c_str();
    options.session = "capi";
    char why[256] = "";
    producer_ = moetrace_open(&options, why, sizeof why);
    ASSERT_NE(producer_, nullptr) << why;
    const std::string trace = moetrace_trace_id(producer_);
    auto segment = CollectorSegment::open(directory_.path(), {"capi", trace},
                                          CollectorSegment::Access::kObserve);
    ASSERT_TRUE(segment) << segment.error().message;
    segment_ = std::make_unique<CollectorSegment>(std::move(*segment));
    reader_ = std::make_unique<SegmentReader>(segment_->map());
  }
  void TearDown() override { moetrace_close(producer_); }

  using Record = decltype(&moetrace_record_cuda);
  void record_pass(Record record, bool join_each) {
    for (std::uint32_t layer = 0; layer < kLayers; ++layer) {
      record(producer_, stream_, layer, ids_.data(), MOETRACE_INT32, weights_.data(),
             MOETRACE_FLOAT32, kRows);
      if (join_each) moetrace_join(producer_, stream_);
    }
    moetrace_join(producer_, stream_);
  }
  int begin(std::uint32_t rows, std::uint64_t request = 0, std::uint64_t position = 0) {
    const moetrace_span span{request, position, 0, rows};
    return moetrace_step_begin_cuda(producer_, stream_, rows, &span, 1);
  }

  TestDirectory directory_;
  moetrace_producer* producer_ = nullptr;
  std::unique_ptr<CollectorSegment> segment_;
  std::unique_ptr<SegmentReader> reader_;
  Stream stream_;
  OnGpu<std::int32_t> ids_{{0, 1, 2, 3, 4, 5, 6, 7, 0, 2, 4, 6, 1, 3, 5, 7}};
  OnGpu<float> weights_{std::vector<float>(kRows * kTopK, 0.25f)};
};

TEST_F(CudaCApi, EachWayToRecordGivesTheSame) {
  const struct {
    Record record;
    bool join_each;
  } ways[] = {{&moetrace_record_cuda, true},
              {&moetrace_record_cuda, false},
              {&moetrace_record_cuda_deferred, false},
              {&moetrace_record_cuda_in_line, false}};
  for (const auto& way : ways) {
    for (const bool captured : {false, true}) {
      SCOPED_TRACE(&way - ways);
      std::unique_ptr<Graph> graph;
      if (captured)
        graph = std::make_unique<Graph>(stream_, [&] { record_pass(way.record, way.join_each); });
      ASSERT_EQ(begin(3), 1);
      if (captured) {
        graph->replay(stream_);
      } else {
        record_pass(way.record, way.join_each);
      }
      stream_.wait();
      const auto rows = reader_->routes();
      ASSERT_EQ(rows.size(), 9u);
      for (std::uint32_t n = 0; n < 9; ++n) {
        EXPECT_EQ(rows[n].layer, n / 3);
        EXPECT_EQ(rows[n].row, n % 3);
        EXPECT_EQ(rows[n].expert[1], (std::array{1, 5, 2})[n % 3]);
        EXPECT_EQ(rows[n].weight[3], 0.25f);
      }
    }
  }
  EXPECT_EQ(moetrace_failure(producer_), nullptr);
}

TEST_F(CudaCApi, BehindThePass) {
  const std::uint64_t request = moetrace_request_begin(producer_, "r", 1, 0);
  const Graph pass(stream_, [] {});  // it leaves ids and weights where they are
  for (std::uint64_t position = 0; position < 20; ++position) {
    pass.replay(stream_);
    ASSERT_EQ(begin(1, request, position), 1);
    record_pass(&moetrace_record_cuda_deferred, false);
  }
  stream_.wait();
  EXPECT_EQ(reader_->routes().size(), 60u);
  moetrace_totals totals;
  totals.size = sizeof totals;
  moetrace_get_totals(producer_, &totals);
  EXPECT_EQ(totals.steps, 20u);
  EXPECT_EQ(totals.attempted, 60u);
  EXPECT_EQ(totals.recorded, 60u);
  EXPECT_EQ(totals.dropped, 0u);
  EXPECT_GT(totals.announce_ns, 0u);
  EXPECT_GT(totals.hook_ns, 0u);
}

TEST_F(CudaCApi, ABatchInColumns) {
  const std::uint64_t requests[] = {moetrace_request_begin(producer_, "a", 0, 0),
                                    moetrace_request_begin(producer_, "b", 0, 0)};
  const std::int32_t starts[] = {0, 1, 3};
  const std::int32_t firsts[] = {7, 0};
  ASSERT_EQ(moetrace_step_begin_columns(producer_, stream_, 2, requests, starts, firsts, 0), 1);
  record_pass(&moetrace_record_cuda_deferred, false);
  stream_.wait();
  EXPECT_EQ(reader_->routes().size(), 9u);
}

TEST_F(CudaCApi, AnAbortedStepAndTheHostsCallsLeaveNothing) {
  ASSERT_EQ(begin(4), 1);
  moetrace_step_abort_cuda(producer_, stream_);
  record_pass(&moetrace_record_cuda_deferred, false);
  EXPECT_EQ(moetrace_step_begin(producer_, 4, nullptr, 0), 0);
  moetrace_record(producer_, 0, ids_.data(), MOETRACE_INT32, weights_.data(), MOETRACE_FLOAT32, 4);
  stream_.wait();
  EXPECT_TRUE(reader_->routes().empty());
  const Graph graph(stream_, [&] { EXPECT_EQ(begin(4), 0) << "not during a capture"; });
  EXPECT_EQ(graph.nodes(), 0u);
}

}  // namespace
}  // namespace moetrace::cuda
