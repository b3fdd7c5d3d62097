// How fast the trace reader is: over lines, beside nlohmann::json::parse over the same lines in the
// same run, and over the same rows as Arrow.
//
//   trace_reader_bench [FILE]
//
// Without a file it makes its own: 400,000 top-4 route lines of schema moetrace/1, and a trace of
// two files with these rows. Files are read once before, so that all measure reading and not the
// disk.
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "common/bench_machine.hpp"
#include "trace/arrow_test_writer.hpp"
#include "trace/trace_reader.hpp"

namespace {

using moetrace::trace::ArrowTestWriter;
using moetrace::trace::Route;
using moetrace::trace::RowRun;
using moetrace::trace::StoredBody;
using moetrace::trace::StoredWeights;
using moetrace::trace::TestRow;
using moetrace::trace::TraceReader;
using Clock = std::chrono::steady_clock;

struct Measured {
  uint64_t lines = 0;
  double seconds = 0;
  uint64_t id_sum = 0;  // both readers must agree on it
};

nlohmann::ordered_json meta_line() {
  return {{"type", "meta"},    {"model_id", "bench"},    {"layers_logged", {0}}, {"top_k", 4},
          {"num_experts", 60}, {"schema", "moetrace/1"}, {"trace_id", "bench"}};
}

// Rows as the collector writes them: 60 experts, weights with 7 to 9 digits.
std::vector<TestRow> make_rows(std::uint64_t count) {
  std::vector<TestRow> rows;
  std::mt19937 random(1234);
  for (std::uint64_t seq = 0; seq < count; ++seq) {
    TestRow row{.request = seq % 25, .token_idx = seq / 25, .step = seq / 25, .seq = seq};
    for (int k = 0; k < 4; ++k) {
      row.ids.push_back(static_cast<std::uint16_t>(random() % 60));
      row.weights.push_back(static_cast<float>(random()) / 2e10F);
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

void write_lines(const std::string& path, const std::vector<TestRow>& rows) {
  std::ofstream out(path);
  out << meta_line().dump() << '\n';
  for (const TestRow& row : rows) {
    nlohmann::ordered_json line{{"type", "route"},
                                {"req_id", "r" + std::to_string(*row.request)},
                                {"token_idx", *row.token_idx},
                                {"layer", 0},
                                {"topk_ids", row.ids}};
    for (const float weight : row.weights) {
      char text[32];
      std::snprintf(text, sizeof text, "%.9g", static_cast<double>(weight));
      line["topk_weights"].push_back(std::strtod(text, nullptr));
    }
    line["request"] = *row.request;
    line["step"] = row.step;
    line["seq"] = row.seq;
    out << line.dump() << '\n';
  }
}

// Two files, by their common name. Bodies as of `moetraced --compress fast`.
void write_two_files(const std::string& name, const std::vector<TestRow>& rows) {
  ArrowTestWriter writer({.trace_id = "bench", .top_k = 4, .weights = StoredWeights::kFloat32},
                         StoredBody::kZstd);
  for (std::size_t first = 0; first < rows.size();) {
    const std::size_t next =
        std::min<std::size_t>(rows.size(), first + moetrace::arrow::kSlotsABatch);
    const auto at = rows.begin();
    writer.batch(first, next, next,
                 {at + static_cast<std::ptrdiff_t>(first), at + static_cast<std::ptrdiff_t>(next)});
    first = next;
  }
  std::ofstream(name + ".arrows", std::ios::binary) << writer.bytes();
  auto meta = meta_line();
  meta["rows"] = {{"file", std::filesystem::path(name).filename().string() + ".arrows"},
                  {"weights", "float32"}};
  std::ofstream(name + ".jsonl") << meta.dump() << '\n'
                                 << nlohmann::ordered_json{{"type", "rows"},
                                                           {"seq", rows.size()},
                                                           {"bytes", writer.bytes().size()},
                                                           {"batches", writer.batches()},
                                                           {"delivered_total", rows.size()},
                                                           {"filtered_total", 0}}
                                        .dump()
                                 << '\n';
}

Measured read(const std::string& path, bool runs) {
  Measured measured;
  const auto start = Clock::now();
  auto reader = TraceReader::open(path, {.num_experts = {}, .runs = runs});
  if (!reader) throw std::runtime_error(reader.error().message);
  for (;;) {
    const auto line = reader->next();
    if (!line) throw std::runtime_error(line.error().message);
    if (*line == nullptr) break;
    if (const auto* run = std::get_if<RowRun>(&(*line)->content)) {
      measured.lines += run->size();
      for (const uint16_t id : run->expert_ids) measured.id_sum += id;
      continue;
    }
    if (const auto* route = std::get_if<Route>(&(*line)->content)) {
      ++measured.lines;
      for (const uint16_t id : route->expert_ids) measured.id_sum += id;
    }
  }
  measured.seconds = std::chrono::duration<double>(Clock::now() - start).count();
  return measured;
}

Measured with_reader(const std::string& path) {
  return read(path, false);
}
Measured as_runs(const std::string& path) {
  return read(path, true);
}

Measured with_nlohmann(const std::string& path) {
  Measured measured;
  const auto start = Clock::now();
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);  // meta
  while (std::getline(in, line)) {
    const auto document = nlohmann::json::parse(line);
    if (document["type"] != "route") continue;
    ++measured.lines;
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

namespace {

double per_second(const Measured& measured) {
  return static_cast<double>(measured.lines) / measured.seconds / 1e6;
}

}  // namespace

int main(int argc, char** argv) try {
  std::string path = argc > 1 ? argv[1] : "/tmp/trace_reader_bench.XXXXXX";
  const std::string two_files = path + ".two";
  if (argc <= 1) {
    const int fd = ::mkstemp(path.data());
    if (fd < 0) throw std::runtime_error("cannot make a file in /tmp");
    ::close(fd);
    const auto rows = make_rows(400'000);
    write_lines(path, rows);
    write_two_files(two_files, rows);
  }
  const Measured ours = best(with_reader, path);
  const Measured theirs = best(with_nlohmann, path);
  std::vector<std::pair<const char*, Measured>> arrow;
  if (argc <= 1) {
    arrow = {{"rows as Arrow, one by one", best(with_reader, two_files + ".jsonl")},
             {"rows as Arrow, columns", best(as_runs, two_files + ".jsonl")}};
    for (const std::string& made : {path, two_files + ".jsonl", two_files + ".arrows"}) {
      ::unlink(made.c_str());
    }
  }
  if (ours.lines != theirs.lines) throw std::runtime_error("the two readers disagree");
  arrow.insert(arrow.begin(), {{"lines, nlohmann::json::parse", theirs}, {"lines", ours}});
  std::printf("%s, %llu rows\n\n", moetrace::bench::cpu_model().c_str(),
              static_cast<unsigned long long>(ours.lines));
  std::printf("| read | million rows/s | factor |\n|---|---|---|\n");
  for (const auto& [name, measured] : arrow) {
    if (measured.id_sum != ours.id_sum) throw std::runtime_error("the readers disagree");
    std::printf("| %s | %.2f | %.1f |\n", name, per_second(measured),
                per_second(measured) / per_second(theirs));
  }
  return 0;
} catch (const std::exception& error) {
  std::cerr << "trace_reader_bench: " << error.what() << '\n';
  return 1;
}
