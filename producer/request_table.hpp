// The live requests of a producer: assigns their numbers, writes their events, and fills the
// segment's request table, from which a late collector learns their ids.
#pragma once

#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "producer/event_writer.hpp"
#include "shm/segment_map.hpp"

namespace moetrace {

class RequestTable {
 public:
  RequestTable(const SegmentMap& map, EventWriter& events);

  // See moetrace_request_begin and moetrace_request_end.
  std::uint64_t begin(std::string_view id, std::uint32_t prompt_tokens,
                      std::uint32_t cached_tokens);
  void end(std::uint64_t request, std::uint32_t generated_tokens, std::string_view status);

  // Writes the events that found no room before. Returns false if some still don't fit: announce no
  // step then, because its spans might name a request that the collector can't know yet.
  //
  // The live requests bound the number of waiting events: a request that ends before its event was
  // written leaves nothing.
  bool flush();

 private:
  static constexpr std::uint32_t kNoEntry = UINT32_MAX;
  struct Live {
    std::string id;
    std::uint32_t prompt_tokens;
    std::uint32_t cached_tokens;
    // Its event is written.
    bool announced = false;
    // Its place in the table.
    std::uint32_t entry = kNoEntry;
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
  // Entries of ended requests, in the order of their ends; reused once the end is consumed.
  std::deque<Ended> ended_;
};

}  // namespace moetrace
