// Traces of a few lines for the tests of TraceReader.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "trace/test_files.hpp"
#include "trace/trace_reader.hpp"

namespace moetrace::trace {

inline const std::string kMeta =
    R"({"type":"meta","model_id":"tiny","vllm_version":null,"torch_version":"2.9","device":"cpu",)"
    R"("seed":1234,"layers_logged":[0,1],"top_k":2,"num_experts":8,"schema":"moetrace/1",)"
    R"("trace_id":"t","engine":"e","engine_version":"1","num_layers":2,)"
    R"("router":{"score":"softmax","renormalized":false,"scaling":1,"biased":true,"groups":8,"topk_groups":4},)"
    R"("notes":["one","two"],"rank":1,"world_size":2,)"
    R"("ranks":{"tp":1,"dp":0,"pp":0,"ep":0},"host":"h","created_at":1764302556.01})"
    "\n";
inline const std::string kPlainMeta =
    R"({"type": "meta", "model_id": "plain", "layers_logged": [0], "top_k": 2, "created_at": 1.5})"
    "\n";
inline const std::string kRoute =
    R"({"type":"route","req_id":"r0","token_idx":7,"layer":1,"topk_ids":[3,0],)"
    R"("topk_weights":[0.31,0.12],"request":4,"step":5,"seq":6})"
    "\n";

class TraceReaderTest : public testing::Test {
 protected:
  TestFolder folder_;

  Result<TraceReader> open(const std::string& bytes, const ReadOptions& options = {}) {
    return TraceReader::open(folder_.write("t.jsonl", bytes), options);
  }

  // Reads to the first error; what is wrong, without the folder's name. Empty if nothing is.
  std::string error_of(const std::string& bytes, const ReadOptions& options = {}) {
    auto reader = open(bytes, options);
    std::string message;
    if (!reader) {
      message = reader.error().message;
    } else {
      for (;;) {
        const auto line = reader->next();
        if (!line) message = line.error().message;
        if (!line || *line == nullptr) break;
      }
    }
    const std::string path = folder_.at("t.jsonl") + ": ";
    return message.starts_with(path) ? message.substr(path.size()) : message;
  }

  std::string line_error(const std::string& line) { return error_of(kMeta + line + "\n"); }
};

template <class T>
const T& as(const Result<const Line*>& line) {
  return std::get<T>((*line)->content);
}

}  // namespace moetrace::trace
