// For comparison: records as the public logging patch does. After each router it copies the routing
// to the host, waits for the copy, and writes a JSON line for each row to a file.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "engine/router_hook.hpp"

namespace moetrace::engine {

class JsonLinesHook final : public RouterHook {
 public:
  // `layer` -1: all layers. Throws std::runtime_error if the file can't be written.
  JsonLinesHook(const std::string& path, int64_t layer);
  ~JsonLinesHook() override;
  JsonLinesHook(const JsonLinesHook&) = delete;
  JsonLinesHook& operator=(const JsonLinesHook&) = delete;

  // Call before each pass: the number of its real rows, and the position that all of them have.
  void next_pass(int64_t rows, int64_t position) { rows_ = rows, position_ = position; }

  using RouterHook::routed;
  void routed(int64_t layer, const DeviceRoutes& routes, CUstream_st* stream) override;
  When when() const override { return When::kInEagerPass; }

 private:
  std::FILE* file_;
  int64_t layer_;
  int64_t rows_ = 0;
  int64_t position_ = 0;
  std::vector<int32_t> ids_;
  std::vector<float> weights_;
};

}  // namespace moetrace::engine
