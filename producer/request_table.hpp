// The live requests of a producer: their numbers, their events, and the table from which a late
// collector names them.
#pragma once

#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "producer/event_writer.hpp"
#include "shm/segment.hpp"

namespace moetrace {

class RequestTable {
 public:
  RequestTable(const SegmentMap& map, EventWriter& events);

  // As moetrace_request_begin and moetrace_request_end.
  std::uint64_t begin(std::string_view id, std::uint32_t prompt_tokens,
                      std::uint32_t cached_tokens);
  void end(std::uint64_t request, std::uint32_t generated_tokens, std::string_view status);

  // Writes the events that found no room before. False if some still don't fit: no step may be
  // announced then, because its spans might name a request that the collector can't know. What
  // waits here is bounded by the number of live requests: a request that ends before it could be
  // announced leaves nothing.
  bool flush();

 private:
  static constexpr std::uint32_t kNoEntry = UINT32_MAX;
  struct Live {
    std::string id;
    std::uint32_t prompt_tokens;
    std::uint32_t cached_tokens;
    bool announced = false;
    std::uint32_t entry = kNoEntry;  // in the table
  };
  struct Pending {
    std::uint64_t request;
    bool is_end;
    std::uint32_t generated_tokens = 0;
    std::string status;
    std::uint32_t entry = kNoEntry;
  };
  struct Ended {
    std::uint32_t entry;
    std::uint64_t end_event;
  };

  bool write_begin(std::uint64_t request, Live& live);
  bool write_end(const Pending& end);
  std::uint32_t take_entry();
  SharedWord entry_word(std::uint32_t entry, std::size_t word) const;

  const SegmentMap& map_;
  EventWriter& events_;
  std::uint64_t next_ = 0;
  boost::unordered_flat_map<std::uint64_t, Live> live_;
  std::deque<Pending> pending_;
  std::vector<std::uint32_t> free_entries_;
  std::deque<Ended> ended_;  // entries to be taken again once their end has been consumed, in the
                             // order of their ends
};

}  // namespace moetrace
