// What the passes of one model runner of vLLM's announce: requests that come and go, and which rows
// are whose. Without Python; module.cpp is what vLLM's adapter sees.
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
  // In a place of the batch: nobody, or one who has gone.
  static constexpr std::uint64_t kNobody = UINT64_MAX;

  // `speculative`: a pass may feed tokens that are not kept. `asynchronous`: the next pass is
  // enqueued before they are known. `rows_known`: else the GPU deals a pass's rows out to its
  // requests.
  Steps(bool speculative, bool asynchronous, bool rows_known)
      : speculative_(speculative), asynchronous_(asynchronous), rows_known_(rows_known) {}

  bool rows_known() const { return rows_known_; }
  bool positions_known() const { return rows_known_ && !(speculative_ && asynchronous_); }
  std::size_t live() const { return live_.size(); }

  // As vLLM's scheduler says it: also of one that was preempted, and comes again, and of a session
  // that goes on with a longer prompt. Counts that are not known are empty; without `most_tokens`
  // it generates nothing. Answers its number.
  std::uint64_t begin(moetrace_producer* producer, std::string_view id,
                      std::optional<std::uint32_t> prompt_tokens, std::uint32_t cached_tokens,
                      std::optional<std::int64_t> most_tokens);
  // One that never came is ignored.
  void end(moetrace_producer* producer, std::string_view id);
  void end_all(moetrace_producer* producer);

  // kNobody: there is no such request.
  std::uint64_t number_of(std::string_view id) const;

  // The numbers of the batch, place by place; kNobody for one who has gone since it was set.
  const std::vector<std::uint64_t>& batch() const { return batch_; }
  // Has somebody of it gone?
  bool batch_has_gaps() const { return batch_has_gaps_; }
  void set_batch(std::vector<std::uint64_t> numbers);

  // As moetrace_step_begin_columns, of the batch that was set last.
  bool announce(moetrace_producer* producer, moetrace_cuda_stream stream,
                const std::int32_t* starts, const std::int32_t* firsts, std::int64_t began_ns);

 private:
  // A request that ends was in one of the last passes, unless it was preempted.
  static constexpr std::size_t kPassesKept = 4;

  struct Live {
    std::uint64_t number;
    std::string name;
    std::optional<std::uint32_t> prompt_tokens;
    std::optional<std::int64_t> most_tokens;
  };
  struct Pass {
    std::shared_ptr<const std::vector<std::uint64_t>> requests;
    std::vector<std::int32_t> reached;  // each one's next position
  };
  // Finds a std::string by a std::string_view.
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };

  void tell_end(moetrace_producer* producer, const Live& live);
  std::optional<std::int64_t> generated(const Live& live) const;

  const bool speculative_, asynchronous_, rows_known_;
  // Flat: caches are cold, and each node would be a miss.
  boost::unordered_flat_map<std::string, Live, Hash, std::equal_to<>> live_;
  boost::unordered_flat_set<std::string, Hash, std::equal_to<>> names_;
  std::vector<std::uint64_t> batch_;
  bool batch_has_gaps_ = false;
  // The batch, as it was set.
  std::shared_ptr<const std::vector<std::uint64_t>> requests_ =
      std::make_shared<const std::vector<std::uint64_t>>();
  std::array<Pass, kPassesKept> passes_;
  std::uint64_t announced_ = 0;
};

}  // namespace moetrace
