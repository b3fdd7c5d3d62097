// The alternative inside the process that the hook is compared with.
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "producer/hook_bench.hpp"

namespace moetrace::bench {

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
