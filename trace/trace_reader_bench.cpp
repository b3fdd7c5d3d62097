// How fast the trace reader is, beside nlohmann::json::parse over the same lines in the same run.
//
//   trace_reader_bench [FILE]
//
// Without a file it makes its own: 400,000 top-4 route lines of schema moetrace/1. The file is read
// once before, so that both measure parsing and not the disk.
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "trace/trace_reader.hpp"

namespace {

using moetrace::trace::Route;
using moetrace::trace::TraceReader;
using Clock = std::chrono::steady_clock;

struct Measured {
  uint64_t lines = 0;
  double seconds = 0;
  uint64_t id_sum = 0;  // both readers must agree on it
};

std::string cpu_model() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
  }
  return "unknown CPU";
}

// Route lines as the collector writes them: 60 experts, weights with 7 to 9 digits.
void write_trace(const std::string& path, int routes) {
  std::ofstream out(path);
  out << R"({"type":"meta","model_id":"bench","layers_logged":[0],"top_k":4,"num_experts":60,)"
      << R"("schema":"moetrace/1","trace_id":"bench"})" << '\n';
  std::mt19937 random(1234);
  for (int seq = 0; seq < routes; ++seq) {
    nlohmann::ordered_json line{{"type", "route"},
                                {"req_id", "r" + std::to_string(seq % 25)},
                                {"token_idx", seq / 25},
                                {"layer", 0}};
    for (int k = 0; k < 4; ++k) {
      line["topk_ids"].push_back(random() % 60);
      char weight[32];
      std::snprintf(weight, sizeof weight, "%.9g", static_cast<double>(random()) / 2e10);
      line["topk_weights"].push_back(std::strtod(weight, nullptr));
    }
    line["request"] = seq % 25;
    line["step"] = seq / 25;
    line["seq"] = seq;
    out << line.dump() << '\n';
  }
}

Measured with_reader(const std::string& path) {
  Measured measured;
  const auto start = Clock::now();
  auto reader = TraceReader::open(path);
  if (!reader) throw std::runtime_error(reader.error().message);
  for (;;) {
    const auto line = reader->next();
    if (!line) throw std::runtime_error(line.error().message);
    if (*line == nullptr) break;
    ++measured.lines;
    if (const auto* route = std::get_if<Route>(&(*line)->content)) {
      for (const uint16_t id : route->expert_ids) measured.id_sum += id;
    }
  }
  measured.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return measured;
}

Measured with_nlohmann(const std::string& path) {
  Measured measured;
  const auto start = Clock::now();
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);  // meta
  while (std::getline(in, line)) {
    const auto document = nlohmann::json::parse(line);
    ++measured.lines;
    if (document["type"] != "route") continue;
    for (const auto& id : document["topk_ids"]) measured.id_sum += id.get<uint16_t>();
  }
  measured.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return measured;
}

// The fastest of a few runs: what the code can do when the machine lets it.
template <class Function>
Measured best(Function function, const std::string& path) {
  Measured fastest = function(path);
  for (int run = 1; run < 5; ++run) {
    const Measured again = function(path);
    if (again.seconds < fastest.seconds) fastest = again;
  }
  return fastest;
}

}  // namespace

int main(int argc, char** argv) try {
  std::string path = argc > 1 ? argv[1] : "/tmp/trace_reader_bench.XXXXXX";
  if (argc <= 1) {
    const int fd = ::mkstemp(path.data());
    if (fd < 0) throw std::runtime_error("cannot make a file in /tmp");
    ::close(fd);
    write_trace(path, 400'000);
  }
  const Measured ours = best(with_reader, path);
  const Measured theirs = best(with_nlohmann, path);
  if (argc <= 1) ::unlink(path.c_str());
  if (ours.lines != theirs.lines || ours.id_sum != theirs.id_sum) {
    throw std::runtime_error("the two readers disagree");
  }
  const double ours_per_s = static_cast<double>(ours.lines) / ours.seconds;
  const double theirs_per_s = static_cast<double>(theirs.lines) / theirs.seconds;
  std::printf(
      "| lines | trace reader, lines/s | nlohmann::json::parse, lines/s | factor | machine |\n");
  std::printf("|---|---|---|---|---|\n");
  std::printf("| %lu | %.2f M | %.2f M | %.1f | %s |\n", ours.lines, ours_per_s / 1e6,
              theirs_per_s / 1e6, ours_per_s / theirs_per_s, cpu_model().c_str());
  return 0;
} catch (const std::exception& error) {
  std::cerr << "trace_reader_bench: " << error.what() << '\n';
  return 1;
}
