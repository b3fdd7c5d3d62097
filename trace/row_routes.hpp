// Rows of a rows file one by one, as the lines that they would have been.
#pragma once

#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trace/trace_lines.hpp"

namespace moetrace::trace {

class RowRoutes {
 public:
  // A row has as many entries as its layer's top_k.
  void set_layers(const Meta& meta);
  // Requests come and go by their lines, which name them.
  void note(const Content& content);

  // `run`: at least one row; stays valid until they are all given. `content` becomes its first.
  void take(const RowRun& run, Content& content);
  // The next of them; false: all are given.
  bool next(Content& content);

 private:
  void fill(Route& route);

  std::vector<std::uint32_t> top_k_;  // by layer; empty: that of the file
  RowRun run_;
  std::size_t next_ = 0;
  boost::unordered_flat_map<std::uint64_t, std::optional<std::string>> names_;  // of live requests
  std::int64_t last_ = -1;  // the request of the row before
  std::optional<std::string_view> last_name_;
};

}  // namespace moetrace::trace
