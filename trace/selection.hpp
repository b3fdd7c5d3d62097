// Which rows a trace is meant to have: the layers and steps that `meta` and the control lines
// select. In a file that starts late they are unknown until the next control line.
#pragma once

#include <bitset>
#include <cstdint>
#include <optional>

#include "trace/trace_lines.hpp"
#include "trace/warnings.hpp"

namespace moetrace::trace {

class Selection {
 public:
  Selection(const Meta& meta, Warnings& warnings);

  void at_line(std::uint64_t line) { line_ = line; }
  void forget() { known_ = false; }
  void take(const Control& control);
  void check(const Step& step);
  void check(const Route& route);

  // Nothing was left out on purpose so far: no step, no layer later than another.
  bool always_everything() const { return constant_ && sample_every_ == 1; }

 private:
  Warnings& warnings_;
  std::uint64_t line_ = 1;
  bool known_ = true;
  bool enabled_ = true;
  bool constant_ = true;
  std::uint64_t sample_every_ = 1;
  std::uint64_t from_step_ = 0;
  std::bitset<kMaxLayers> layers_;
};

}  // namespace moetrace::trace
