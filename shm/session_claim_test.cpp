#include "shm/session_claim.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "shm/test_directory.hpp"

namespace moetrace {
namespace {

std::string text_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

class Claims : public ::testing::Test {
 protected:
  std::string own() const {
    return directory_.file("moetrace.v1.test." + std::to_string(::geteuid()) + ".collector");
  }

  TestDirectory directory_;
};

TEST_F(Claims, HoldTheProcessNumberAndGoWithTheClaim) {
  {
    const auto claim = SessionClaim::take(directory_.path(), "test");
    ASSERT_TRUE(claim);
    EXPECT_EQ(claim->problem(), "");
    EXPECT_EQ(text_of(own()), std::to_string(::getpid()) + "\n");
    EXPECT_TRUE(SessionClaim::held(directory_.path(), "test"));
    const auto second = SessionClaim::take(directory_.path(), "test");
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, ErrorCode::kInUse);
    EXPECT_TRUE(SessionClaim::remove_dead(directory_.path(), "test", false).empty());
  }
  EXPECT_FALSE(SessionClaim::held(directory_.path(), "test"));
  EXPECT_TRUE(directory_.files().empty());
}

// In a directory that all users may write, anyone may create a link with our name.
TEST_F(Claims, WriteThroughNoLink) {
  const std::string precious = directory_.file("precious");
  std::ofstream(precious) << "precious";
  for (const bool hard : {false, true}) {
    if (hard)
      std::filesystem::create_hard_link(precious, own());
    else
      std::filesystem::create_symlink(precious, own());
    const auto claim = SessionClaim::take(directory_.path(), "test");
    ASSERT_TRUE(claim);
    EXPECT_NE(claim->problem().find("it is a link or not a regular file"), std::string::npos);
    EXPECT_EQ(text_of(precious), "precious");
    std::filesystem::remove(own());
  }
}

TEST_F(Claims, DontUseAStrangersFile) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a file away";
  std::ofstream(own()) << "theirs";
  ASSERT_EQ(::chown(own().c_str(), 64001, 64001), 0);
  const auto claim = SessionClaim::take(directory_.path(), "test");
  ASSERT_TRUE(claim);
  EXPECT_NE(claim->problem().find("it belongs to uid 64001"), std::string::npos);
  EXPECT_EQ(text_of(own()), "theirs");
  EXPECT_TRUE(SessionClaim::remove_dead(directory_.path(), "test", false).empty());
}

TEST_F(Claims, OfAKilledCollectorAreShownThenRemoved) {
  std::ofstream(own()) << "1\n";
  EXPECT_EQ(SessionClaim::remove_dead(directory_.path(), "test", true),
            std::vector<std::string>{own()});
  EXPECT_EQ(directory_.files().size(), 1u);
  EXPECT_EQ(SessionClaim::remove_dead(directory_.path(), "test", false),
            std::vector<std::string>{own()});
  EXPECT_TRUE(directory_.files().empty());
}

}  // namespace
}  // namespace moetrace
