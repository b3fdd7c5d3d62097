#include "producer/request_table.hpp"

#include "producer/test_segment.hpp"

namespace moetrace {
namespace {

// The id of a request event, assembled from its slots.
std::string id_of(const std::vector<EventSlot>& slots) {
  const auto head = slots.at(0).as<moetrace_request_event>();
  std::string id(head.id, sizeof head.id);
  for (std::size_t n = 1; n < slots[0].slots; ++n) {
    const auto text = slots.at(n).as<moetrace_text_event>();
    EXPECT_EQ(slots[n].kind, MOETRACE_EVENT_TEXT);
    EXPECT_EQ(slots[n].slots, 0) << "a continuation";
    id.append(text.text, sizeof text.text);
  }
  id.resize(head.id_bytes);
  return id;
}

TEST(RequestTable, IdsOfEveryLengthArriveWhole) {
  for (std::size_t length = 0; length <= 255; ++length) {
    Bench bench;
    std::string id;
    for (std::size_t n = 0; n < length; ++n) id += static_cast<char>('a' + n % 26);
    EXPECT_EQ(bench.requests.begin(id, 57, 3), 0u);
    const auto slots = bench.reader.events();
    // 32 bytes in the head, 56 in each slot after it.
    const std::size_t expected = length <= 32 ? 1 : 1 + (length - 32 + 55) / 56;
    ASSERT_EQ(slots.size(), expected) << length;
    EXPECT_EQ(slots[0].kind, MOETRACE_EVENT_REQUEST);
    EXPECT_EQ(slots[0].slots, expected);
    EXPECT_EQ(id_of(slots), id);
    EXPECT_EQ(slots[0].as<moetrace_request_event>().prompt_tokens, 57u);
    EXPECT_EQ(slots[0].as<moetrace_request_event>().cached_tokens, 3u);
    const moetrace_request_entry& entry = bench.map().requests()[0];
    EXPECT_EQ(entry.number_plus_1, 1u);
    EXPECT_EQ(entry.begin_event, 0u);
    EXPECT_EQ(entry.end_event, UINT64_MAX);
    EXPECT_EQ(std::string(entry.id, entry.id_bytes), id);
  }
}

TEST(RequestTable, LongIdsAreCutBetweenCharacters) {
  Bench bench;
  bench.requests.begin(std::string(300, 'x'), 0, 0);
  EXPECT_EQ(id_of(bench.reader.events()), std::string(255, 'x'));
  bench.requests.begin(std::string(254, 'x') + "é", 0, 0);
  EXPECT_EQ(id_of(bench.reader.events()), std::string(254, 'x'));
  bench.requests.begin(std::string(253, 'x') + "é", 0, 0);
  EXPECT_EQ(id_of(bench.reader.events()), std::string(253, 'x') + "é");
  bench.requests.begin(std::string(253, 'x') + "😀", 0, 0);
  EXPECT_EQ(id_of(bench.reader.events()), std::string(253, 'x'));
  bench.requests.begin(std::string(300, '\x80'), 0, 0);
  EXPECT_EQ(id_of(bench.reader.events()), "") << "no character begins anywhere";
}

TEST(RequestTable, EndsAreWrittenOnce) {
  Bench bench;
  const auto request = bench.requests.begin("r0", 1, 0);
  bench.requests.end(request, 128, "a status that is longer than the field, é");
  bench.requests.end(request, 1, "again");
  bench.requests.end(999, 1, "never began");
  const auto slots = bench.reader.events();
  ASSERT_EQ(slots.size(), 2u);
  const auto end = slots[1].as<moetrace_request_end_event>();
  EXPECT_EQ(slots[1].kind, MOETRACE_EVENT_REQUEST_END);
  EXPECT_EQ(end.request, request);
  EXPECT_EQ(end.generated_tokens, 128u);
  EXPECT_EQ(std::string(end.status),
            std::string("a status that is longer than the field, é").substr(0, 31));
  EXPECT_EQ(bench.map().requests()[0].end_event, 1u);
}

TEST(RequestTable, EventsWithoutRoomWaitInOrder) {
  Bench bench;  // 64 event slots
  for (int n = 0; n < 64; ++n) bench.requests.begin("r", 0, 0);
  EXPECT_TRUE(bench.requests.flush());
  const auto late = bench.requests.begin("late", 7, 0);
  bench.requests.end(0, 5, "stop");
  EXPECT_FALSE(bench.requests.flush());
  EXPECT_EQ(bench.reader.events().size(), 64u);
  EXPECT_TRUE(bench.requests.flush());
  const auto slots = bench.reader.events();
  ASSERT_EQ(slots.size(), 2u);
  EXPECT_EQ(slots[0].as<moetrace_request_event>().request, late);
  EXPECT_EQ(slots[1].as<moetrace_request_end_event>().request, 0u);
}

TEST(RequestTable, AShorterEventDoesNotOvertakeAWaitingOne) {
  Bench bench;
  for (int n = 0; n < 62; ++n) bench.requests.begin("r", 0, 0);
  // Needs four slots; two are free.
  const auto longer = bench.requests.begin(std::string(200, 'x'), 0, 0);
  const auto shorter = bench.requests.begin("s", 0, 0);
  bench.requests.end(0, 5, "stop");
  EXPECT_EQ(bench.reader.events().size(), 62u);
  EXPECT_TRUE(bench.requests.flush());
  const auto slots = bench.reader.events();
  ASSERT_EQ(slots.size(), 6u);
  EXPECT_EQ(slots[0].as<moetrace_request_event>().request, longer);
  EXPECT_EQ(slots[4].as<moetrace_request_event>().request, shorter);
  EXPECT_EQ(slots[5].as<moetrace_request_end_event>().request, 0u);
}

TEST(RequestTable, ARequestThatEndsBeforeItCouldBeAnnouncedLeavesNothing) {
  Bench bench;
  for (int n = 0; n < 64; ++n) bench.requests.begin("r", 0, 0);
  for (int n = 0; n < 1000; ++n) bench.requests.end(bench.requests.begin("short", 0, 0), 0, "stop");
  bench.reader.events();
  EXPECT_TRUE(bench.requests.flush());
  EXPECT_TRUE(bench.reader.events().empty());
}

TEST(RequestTable, AGroupThatDoesNotFitTakesNothing) {
  Bench bench;
  for (int n = 0; n < 61; ++n) bench.requests.begin("r", 0, 0);
  // Needs four slots; three are free.
  bench.requests.begin(std::string(200, 'x'), 0, 0);
  EXPECT_EQ(bench.events.position(), 61u);
  EXPECT_EQ(bench.reader.events().size(), 61u);
}

TEST(RequestTable, EntriesAreReusedOnlyOnceTheEndIsConsumed) {
  Bench bench;  // four entries
  for (int n = 0; n < 4; ++n) bench.requests.begin("r" + std::to_string(n), 0, 0);
  bench.requests.end(2, 0, "stop");
  const auto fifth = bench.requests.begin("r4", 0, 0);
  const moetrace_request_entry* table = bench.map().requests();
  for (int n = 0; n < 4; ++n)
    EXPECT_NE(table[n].number_plus_1, fifth + 1) << "nothing was consumed";
  bench.reader.events();
  const auto sixth = bench.requests.begin("r5", 0, 0);
  EXPECT_EQ(table[2].number_plus_1, sixth + 1);
  EXPECT_EQ(std::string(table[2].id, table[2].id_bytes), "r5");
  EXPECT_EQ(table[2].end_event, UINT64_MAX);
  bench.requests.end(fifth, 0, "stop");  // it never had an entry
  EXPECT_EQ(bench.reader.events().size(), 2u);
}

TEST(RequestTable, AHostileConsumedPositionOverwritesNothing) {
  Bench bench;
  for (int n = 0; n < 4; ++n) bench.requests.begin("r", 0, 0);
  bench.map().ctl()->event_consumed = UINT64_MAX;
  for (int n = 0; n < 4; ++n) bench.requests.end(static_cast<std::uint64_t>(n), 0, "stop");
  for (int n = 0; n < 100; ++n) bench.requests.begin("r", 0, 0);
  EXPECT_EQ(bench.events.position(), 64u) << "no slot was written twice";
}

}  // namespace
}  // namespace moetrace
