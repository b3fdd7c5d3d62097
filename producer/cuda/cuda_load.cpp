// moetrace-cuda-load ROWS LAYERS STEPS [--lossless]: a producer under load, for tests. It replays a
// captured graph of LAYERS layers with the routing of test_routing.hpp, for STEPS announced passes
// of ROWS rows (0: until it is killed). With --lossless it waits for room before each pass, which
// an engine must never do. Its last line says how many records it announced. Exit code 77: no GPU.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "producer/cuda/test_routing.hpp"
#include "producer/ring_producer.hpp"
#include "producer/settings.hpp"

namespace moetrace::cuda {
namespace {

void check(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "moetrace-cuda-load: %s\n", cudaGetErrorString(error));
  std::exit(1);
}

template <class T>
T* allocate(std::size_t count) {
  void* data = nullptr;
  check(cudaMalloc(&data, count * sizeof(T)));
  check(cudaMemset(data, 0, count * sizeof(T)));
  // The memset may still run when it returns.
  check(cudaDeviceSynchronize());
  return static_cast<T*>(data);
}

void wait_for_room(RingProducer& producer, std::uint64_t records) {
  const SegmentMap& map = producer.map();
  const SharedWord consumed(&map.ctl()->route_consumed);
  const SharedWord event_consumed(&map.ctl()->event_consumed);
  // acquire: as everywhere for these words. Nothing read here depends on it: the announcement loads
  // them again for the GPU.
  while (producer.announcer().attempted() + records - consumed.load(std::memory_order_acquire) >
             map.header().route_slots ||
         producer.events().position() + 16 - event_consumed.load(std::memory_order_acquire) >
             map.header().event_slots)
    std::this_thread::yield();
}

int run(std::uint32_t rows, std::uint32_t layers, std::uint64_t steps, bool lossless) {
  moetrace_options options;
  moetrace_options_init(&options, sizeof options);
  options.num_layers = layers;
  options.num_experts = kTestExperts;
  options.top_k = kTestTopK;
  options.model_id = "test/load";
  options.engine = "moetrace-cuda-load";
  options.device = "cuda";
  options.cuda_device = 0;
  const auto settings = resolve_settings(options);
  auto opened = settings ? RingProducer::open(*settings) : settings.error();
  if (!opened) {
    std::fprintf(stderr, "moetrace-cuda-load: %s\n", opened.error().message.c_str());
    return 1;
  }
  RingProducer& producer = **opened;
  DeviceHook& hook = *producer.device_hook();

  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  auto* step = allocate<std::uint64_t>(1);
  auto* ids = allocate<std::int32_t>(std::size_t{rows} * kTestTopK);
  auto* weights = allocate<float>(std::size_t{rows} * kTestTopK);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  for (std::uint32_t layer = 0; layer < layers; ++layer) {
    check(launch_test_router(stream, step, layer, ids, weights, rows));
    hook.record(stream, layer, ids, MOETRACE_INT32, weights, MOETRACE_FLOAT32, rows,
                DeviceHook::Where::kBranch);
    hook.join(stream);
  }
  check(launch_next_step(stream, step));
  check(cudaStreamEndCapture(stream, &graph));
  check(cudaGraphInstantiate(&exec, graph, 0));

  const std::uint64_t request = producer.requests().begin("load", rows, 0);
  std::printf("ready %s\n", producer.name().trace_id.c_str());
  std::fflush(stdout);
  for (std::uint64_t pass = 0; steps == 0 || pass < steps; ++pass) {
    if (lossless) wait_for_room(producer, std::uint64_t{rows} * layers);
    const moetrace_span span{request, pass * rows, 0, rows};
    producer.begin_step(stream, rows, {&span, 1});
    check(cudaGraphLaunch(exec, stream));
    // An engine fetches its tokens now and then. Here it keeps the launches from running far ahead.
    if (pass % 16 == 15) check(cudaStreamSynchronize(stream));
  }
  producer.requests().end(request, 0, "length");
  check(cudaStreamSynchronize(stream));
  std::printf("%llu records announced\n",
              static_cast<unsigned long long>(producer.announcer().attempted()));
  return 0;
}

}  // namespace
}  // namespace moetrace::cuda

int main(int argc, char** argv) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::fprintf(stderr, "moetrace-cuda-load: found no GPU; run it on a machine with one\n");
    return 77;
  }
  const bool lossless = argc == 5 && std::strcmp(argv[4], "--lossless") == 0;
  if (argc != 4 && !lossless) {
    std::fprintf(stderr, "moetrace-cuda-load: usage: ROWS LAYERS STEPS [--lossless]\n");
    return 2;
  }
  return moetrace::cuda::run(static_cast<std::uint32_t>(std::stoul(argv[1])),
                             static_cast<std::uint32_t>(std::stoul(argv[2])), std::stoull(argv[3]),
                             lossless);
}
