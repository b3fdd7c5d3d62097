// The public logging patch's way, for comparison: after the router the routing is copied to the
// host, which waits for it and writes a JSON line for each row into a file.
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

  // Of the next pass: its real rows, and their position, which is the same for all.
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
