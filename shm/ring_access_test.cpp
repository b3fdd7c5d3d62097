#include "shm/ring_access.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>

#include "shm/session_claim.hpp"
#include "shm/test_segment_files.hpp"

namespace moetrace {
namespace {

mode_t mode_of(const std::string& path) {
  struct stat status {};
  EXPECT_EQ(::stat(path.c_str(), &status), 0) << path;
  return status.st_mode & 07777;
}

// Modes of .ring and .ctl, and of a collector's claim, under a umask that allows all or nothing.
void expect_modes(const TestDirectory& directory, mode_t ring, mode_t ctl,
                  std::optional<gid_t> group = std::nullopt) {
  for (const mode_t mask : {077, 0}) {
    const mode_t before = ::umask(mask);
    const ProducerSegment producer = make_segment(directory);
    const auto claim = SessionClaim::take(directory.path(), "default");
    ::umask(before);
    const std::string ring_path = directory.file(producer.name().ring_file());
    const std::string ctl_path = directory.file(producer.name().ctl_file());
    const std::string claim_path =
        directory.file("moetrace.v1.default." + std::to_string(::geteuid()) + ".collector");
    EXPECT_EQ(mode_of(ring_path), ring);
    EXPECT_EQ(mode_of(ctl_path), ctl);
    EXPECT_EQ(mode_of(claim_path), ctl);
    for (const std::string& path : {ring_path, ctl_path, claim_path}) {
      struct stat status {};
      ASSERT_EQ(::stat(path.c_str(), &status), 0) << path;
      EXPECT_EQ(status.st_gid, group.value_or(::getegid())) << path;
    }
  }
}

TEST(RingAccess, IsPrivate) {
  const TestDirectory directory;
  expect_modes(directory, 0600, 0600);
}

TEST(RingAccess, BelongsToTheGroupOfASetGroupIdDirectory) {
  const TestDirectory directory;
  gid_t group = ::getegid();
  if (::geteuid() == 0) group = 64003;
  ASSERT_EQ(::chown(directory.path().c_str(), static_cast<uid_t>(-1), group), 0);
  ASSERT_EQ(::chmod(directory.path().c_str(), 02770), 0);
  expect_modes(directory, 0640, 0660, group);
}

TEST(RingAccess, BelongsToTheGroupThatIsNamed) {
  const TestDirectory directory;
  ::setenv("MOETRACE_GROUP", std::to_string(::getegid()).c_str(), 1);
  expect_modes(directory, 0640, 0660);
  ::setenv("MOETRACE_GROUP", "no-such-group", 1);
  expect_modes(directory, 0600, 0600);
  if (::geteuid() == 0) {
    ::setenv("MOETRACE_GROUP", "64003", 1);
    expect_modes(directory, 0640, 0660, 64003);
  }
  ::unsetenv("MOETRACE_GROUP");
}

}  // namespace
}  // namespace moetrace
