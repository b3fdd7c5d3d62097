// When a part is over, and which files --keep may remove.
#include "daemon/collector/part_limits.hpp"

#include "daemon/collector/kept_parts.hpp"
#include "daemon/collector/test_trace.hpp"

namespace moetrace {
namespace {

using std::chrono::seconds;

TEST(PartLimits, SizeCountsBothFilesAndLeavesRoomBesideTheHead) {
  const ByteSize size{1000};
  EXPECT_FALSE(part_is_over({.bytes = 999}, size, {}));
  EXPECT_TRUE(part_is_over({.bytes = 1000}, size, {}));
  // A head as large as a part.
  EXPECT_FALSE(part_is_over({.bytes = 1499, .head_bytes = 1000}, size, {}));
  EXPECT_TRUE(part_is_over({.bytes = 1500, .head_bytes = 1000}, size, {}));
  EXPECT_FALSE(part_is_over({.bytes = 1 << 30}, {}, {}));
}

TEST(PartLimits, AgeCountsOnlyWithRows) {
  const TimeSpan age{60};
  EXPECT_FALSE(part_is_over({.has_rows = true, .age = seconds(59)}, {}, age));
  EXPECT_TRUE(part_is_over({.has_rows = true, .age = seconds(60)}, {}, age));
  EXPECT_FALSE(part_is_over({.has_rows = false, .age = seconds(600)}, {}, age));
  EXPECT_FALSE(part_is_over({.has_rows = true, .age = seconds(600)}, {}, {}));
}

class KeptParts : public testing::Test {
 protected:
  std::string write(const std::string& name, int part, const std::string& trace_id = "t") {
    const std::string path = directory.path() + "/" + name;
    std::ofstream file(path);
    file << R"({"type":"meta","trace_id":")" << trace_id << "\"}\n";
    file << (part == 1 ? std::string(R"({"type":"step"})")
                       : R"({"type":"part","part":)" + std::to_string(part) + "}")
         << "\n";
    return path;
  }
  RemovedParts remove_before(std::uint64_t first_kept) {
    CollectorOptions options;
    options.output = directory.path() + "/x.jsonl";
    return remove_parts_before(OutputNames(options, "t", 0), "t", first_kept);
  }

  TestDirectory directory;
};

TEST_F(KeptParts, GoByWhatIsInsideThem) {
  const std::string first = write("x.jsonl", 1);
  const std::string second = write("x.2.jsonl", 2);
  const std::string third = write("x.3.jsonl", 3);
  const std::string other = write("x.4.jsonl", 1, "other");
  const std::string moved = write("x.jsonl.1", 1);
  const RemovedParts removed = remove_before(3);
  EXPECT_EQ(removed.parts, (std::vector<std::uint64_t>{1, 2}));
  EXPECT_EQ(removed.paths, (std::vector<std::string>{first, second}));
  EXPECT_EQ(removed.problem, "");
  for (const std::string& gone : {first, second}) EXPECT_FALSE(std::filesystem::exists(gone));
  for (const std::string& kept : {third, other, moved}) EXPECT_TRUE(std::filesystem::exists(kept));
}

TEST_F(KeptParts, CopiesAndLinksStay) {
  const std::string one = write("x.jsonl", 1);
  const std::string copy = write("x.9.jsonl", 1);
  const std::string target = write("away.jsonl", 2);
  const std::string link = directory.path() + "/x.2.jsonl";
  std::filesystem::create_symlink(target, link);
  EXPECT_TRUE(remove_before(9).parts.empty());
  for (const std::string& kept : {one, copy, target, link})
    EXPECT_TRUE(std::filesystem::exists(kept)) << kept;
}

TEST(PartNumbers, AreShownAsARangeOrAList) {
  EXPECT_EQ(numbers_text({3}), "3");
  EXPECT_EQ(numbers_text({1, 2, 3}), "1 to 3");
  EXPECT_EQ(numbers_text({1, 3}), "1, 3");
}

}  // namespace
}  // namespace moetrace
