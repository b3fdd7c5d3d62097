// The alternatives that the hook is compared with.
#include <unistd.h>

#include <atomic>
#include <boost/interprocess/ipc/message_queue.hpp>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "producer/hook_bench.hpp"
#include "shm/abi.h"

namespace moetrace::bench {

Row message_queue_row(int repeats) {
  namespace ipc = boost::interprocess;
  constexpr std::size_t kCapacity = 65'536;
  constexpr std::uint64_t kBurst = kCapacity / 2;
  const std::string name = "moetrace-bench-" + std::to_string(::getpid());
  Row row{"boost::interprocess::message_queue::try_send, 64 bytes", {}};
  {
    ipc::message_queue queue(ipc::create_only, name.c_str(), kCapacity,
                             sizeof(moetrace_route_record));
    std::atomic<std::uint64_t> received = 0;
    std::atomic<bool> stop = false;
    std::thread receiver([&] {
      pin_to(1);
      moetrace_route_record record;
      std::size_t bytes = 0;
      unsigned priority = 0;
      while (!stop) {
        if (queue.try_receive(&record, sizeof record, bytes, priority)) ++received;
      }
    });
    moetrace_route_record record{};
    for (int n = 0; n < repeats; ++n) {
      std::uint64_t sent = 0;
      const std::int64_t begin = now_ns();
      for (std::uint64_t i = 0; i < kBurst; ++i)
        sent += queue.try_send(&record, sizeof record, 0) ? 1 : 0;
      row.ns.push_back(static_cast<double>(now_ns() - begin) / static_cast<double>(kBurst));
      row.records += kBurst;
      row.delivered += sent;
      while (received < row.delivered) std::this_thread::yield();
    }
    stop = true;
    receiver.join();
  }
  ipc::message_queue::remove(name.c_str());
  return row;
}

Row json_row(int repeats) {
  constexpr std::uint64_t kBurst = 8192;
  const std::string path = "/dev/shm/moetrace-bench-" + std::to_string(::getpid()) + ".jsonl";
  Row row{"in-process JSON line: nlohmann::json::dump, ofstream on tmpfs", {}};
  const std::int64_t ids[4] = {3, 12, 40, 7};
  const float weights[4] = {0.31f, 0.12f, 0.09f, 0.05f};
  for (int n = 0; n < repeats; ++n) {
    std::ofstream file(path);
    const std::int64_t begin = now_ns();
    for (std::uint64_t i = 0; i < kBurst; ++i) {
      const nlohmann::ordered_json line = {{"type", "route"}, {"req_id", "r0"},
                                           {"token_idx", i},  {"layer", i % 24},
                                           {"topk_ids", ids}, {"topk_weights", weights}};
      file << line.dump() << '\n';
    }
    file.flush();
    row.ns.push_back(static_cast<double>(now_ns() - begin) / static_cast<double>(kBurst));
    row.records += kBurst;
    row.delivered += file.good() ? kBurst : 0;
  }
  ::unlink(path.c_str());
  return row;
}

}  // namespace moetrace::bench
