// A good trace that the tests of the verifier change, and what the verifier says then.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "trace/verify_files.hpp"

namespace moetrace::trace {

inline std::string join(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

// What verify_trace says about a file with this text.
class VerifierTest : public testing::Test {
 protected:
  ~VerifierTest() override { std::remove(path_.c_str()); }

  std::string verdict(const std::string& text) {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << text;
    auto summary = verify_trace(path_);
    if (!summary) {
      return summary.error().message.substr(path_.size() + 2) + "; " + what_to_try(summary.error());
    }
    summary_ = *summary;
    if (summary_.warnings.size() > 1) return testing::PrintToString(summary_.warnings);
    return summary_.warnings.empty() ? "good" : summary_.warnings[0].substr(path_.size() + 2);
  }
  std::string verdict() { return verdict(join(lines_)); }

  // The number of the line that is blamed, 0 if none is.
  std::size_t blamed() {
    const std::string why = verdict();
    std::size_t line = 0;
    return std::sscanf(why.c_str(), "line %zu:", &line) == 1 ? line : 0;
  }

  // Replaces the only occurrence in line `number` (from 1).
  void edit(std::size_t number, const std::string& from, const std::string& to) {
    std::string& line = lines_.at(number - 1);
    const std::size_t at = line.find(from);
    ASSERT_NE(at, std::string::npos) << line;
    line.replace(at, from.size(), to);
  }
  void erase(std::size_t number) {
    lines_.erase(lines_.begin() + static_cast<std::ptrdiff_t>(number - 1));
  }
  void insert(std::size_t number, const std::string& line) {
    lines_.insert(lines_.begin() + static_cast<std::ptrdiff_t>(number - 1), line);
  }

  static std::string meta() {
    return R"({"type":"meta","model_id":"m","vllm_version":null,"torch_version":null,"device":"cpu","seed":null,"layers_logged":[0,1],"top_k":2,"num_experts":8,"schema":"moetrace/1","trace_id":"00000000-0000-4000-8000-000000000001","engine":"e","engine_version":null,"num_layers":2,"router":null,"rank":0,"world_size":1,"ranks":{"tp":0,"dp":0,"pp":0,"ep":0},"host":null,"created_at":1.5,"sample_every":1})";
  }
  static std::string route(int token, int layer, int step, int seq, const std::string& id = "r0",
                           int request = 0) {
    return R"({"type":"route","req_id":")" + id + R"(","token_idx":)" + std::to_string(token) +
           R"(,"layer":)" + std::to_string(layer) +
           R"(,"topk_ids":[1,2],"topk_weights":[0.5,0.25],"request":)" + std::to_string(request) +
           R"(,"step":)" + std::to_string(step) + R"(,"seq":)" + std::to_string(seq) + "}";
  }
  static std::string step(int number, int rows, int layers, int seq, int event, int attempted,
                          int delivered, int dropped = 0, int filtered = 0, int torn = 0,
                          int event_lost = 0) {
    const auto n = [](int value) { return std::to_string(value); };
    return R"({"type":"step","step":)" + n(number) + R"(,"rows":)" + n(rows) + R"(,"layers":)" +
           n(layers) + R"(,"time_ns":1,"seq":)" + n(seq) + R"(,"dropped_total":)" + n(dropped) +
           R"(,"event":)" + n(event) + R"(,"attempted_total":)" + n(attempted) +
           R"(,"delivered_total":)" + n(delivered) + R"(,"filtered_total":)" + n(filtered) +
           R"(,"torn_total":)" + n(torn) + R"(,"event_lost_total":)" + n(event_lost) + "}";
  }
  static std::string end(int attempted, int delivered, int filtered, int dropped, int torn) {
    const auto n = [](int value) { return std::to_string(value); };
    return R"({"type":"end","attempted":)" + n(attempted) + R"(,"delivered":)" + n(delivered) +
           R"(,"filtered":)" + n(filtered) + R"(,"dropped":)" + n(dropped) + R"(,"torn":)" +
           n(torn) + R"(,"status":"closed"})";
  }

  static std::string end_with_cost(const std::string& cost) {
    std::string line = end(6, 6, 0, 0, 0);
    return line.insert(line.size() - 1, ",\"cost\":" + cost);
  }

  // The rest of the good trace below, after three rows that went to another file. `begin`: the line
  // that says where it begins.
  static std::vector<std::string> from_the_fourth_row(const std::string& begin) {
    return {
        meta(),
        begin,
        R"({"type":"request","req_id":"r0","prompt_tokens":2,"cached_tokens":0,"request":0,"event":null})",
        route(1, 1, 0, 3),
        step(1, 1, 2, 4, 3, 6, 4),
        route(2, 0, 1, 4),
        route(2, 1, 1, 5),
        R"({"type":"request_end","req_id":"r0","generated_tokens":2,"status":"stop","request":0,"event":5})",
        end(3, 3, 0, 0, 0),
    };
  }

  // A good trace: a prefill of 2 rows and a decode step of 1, in 2 layers.
  std::vector<std::string> lines_ = {
      meta(),  // 1
      R"({"type":"request","req_id":"r0","prompt_tokens":2,"cached_tokens":0,"request":0,"event":0})",  // 2
      step(0, 2, 2, 0, 1, 4, 0),  // 3
      route(0, 0, 0, 0),          // 4
      route(1, 0, 0, 1),          // 5
      route(0, 1, 0, 2),          // 6
      route(1, 1, 0, 3),          // 7
      step(1, 1, 2, 4, 3, 6, 4),  // 8
      route(2, 0, 1, 4),          // 9
      route(2, 1, 1, 5),          // 10
      R"({"type":"request_end","req_id":"r0","generated_tokens":2,"status":"stop","request":0,"event":5})",  // 11
      end(6, 6, 0, 0, 0),  // 12
  };
  std::string path_ = testing::TempDir() + "verifier_" + std::to_string(::getpid()) + ".jsonl";
  TraceSummary summary_;
};

}  // namespace moetrace::trace
