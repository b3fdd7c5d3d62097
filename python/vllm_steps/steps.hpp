// What the passes of one vLLM model runner announce: new and finished requests, and which rows are
// whose. Free of Python; module.cpp is its interface for the vLLM adapter.
#pragma once

#include <array>
#include <boost/unordered/unordered_flat_map.hpp>
#include <boost/unordered/unordered_flat_set.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "producer/producer.h"

namespace moetrace {

class Steps {
 public:
  // Marks a place of the batch without a request, or with one that has ended.
  static constexpr std::uint64_t kNoRequest = UINT64_MAX;

  // `speculative`: a pass may feed tokens that are then rejected. `asynchronous`: the next pass is
  // enqueued before these are known. `rows_known` is false if the GPU assigns a pass's rows to its
  // requests.
  Steps(bool speculative, bool asynchronous, bool rows_known)
      : speculative_(speculative), asynchronous_(asynchronous), rows_known_(rows_known) {}

  bool rows_known() const { return rows_known_; }
  bool positions_known() const { return rows_known_ && !(speculative_ && asynchronous_); }
  std::size_t live() const { return live_.size(); }

  // Begins a request that vLLM's scheduler lists as new, and returns its number. A preempted
  // request that returns, and a session that continues with a longer prompt, keep their number.
  // Unknown counts are empty; a request without `most_tokens` generates nothing.
  std::uint64_t begin(moetrace_producer* producer, std::string_view id,
                      std::optional<std::uint32_t> prompt_tokens, std::uint32_t cached_tokens,
                      std::optional<std::int64_t> most_tokens);
  // Ignores a request that never began.
  void end(moetrace_producer* producer, std::string_view id);
  void end_all(moetrace_producer* producer);

  // kNoRequest: no live request has this id.
  std::uint64_t number_of(std::string_view id) const;

  // The request numbers of the batch, by place; kNoRequest for one that has ended since set_batch.
  const std::vector<std::uint64_t>& batch() const { return batch_; }
  // Whether a request of the batch has ended.
  bool batch_has_gaps() const { return batch_has_gaps_; }
  void set_batch(std::vector<std::uint64_t> numbers);

  // moetrace_step_begin_columns for the batch of the last set_batch.
  bool announce(moetrace_producer* producer, moetrace_cuda_stream stream,
                const std::int32_t* starts, const std::int32_t* firsts, std::int64_t began_ns);

 private:
  // A request that ends took part in one of the last passes, unless it was preempted.
  static constexpr std::size_t kPassesKept = 4;

  struct Live {
    std::uint64_t number;
    std::string name;
    std::optional<std::uint32_t> prompt_tokens;
    std::optional<std::int64_t> most_tokens;
  };
  struct Pass {
    std::shared_ptr<const std::vector<std::uint64_t>> requests;
    std::vector<std::int32_t> reached;  // the next position of each request
  };
  // Looks a std::string up by a std::string_view.
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };

  void announce_end(moetrace_producer* producer, const Live& live);
  std::optional<std::int64_t> generated(const Live& live) const;

  const bool speculative_, asynchronous_, rows_known_;
  // Flat maps: caches are cold, and each node would be a cache miss.
  boost::unordered_flat_map<std::string, Live, Hash, std::equal_to<>> live_;
  boost::unordered_flat_set<std::string, Hash, std::equal_to<>> names_;
  std::vector<std::uint64_t> batch_;
  bool batch_has_gaps_ = false;
  // The batch as set, without later ends.
  std::shared_ptr<const std::vector<std::uint64_t>> requests_ =
      std::make_shared<const std::vector<std::uint64_t>>();
  std::array<Pass, kPassesKept> passes_;
  std::uint64_t announced_ = 0;
};

}  // namespace moetrace
