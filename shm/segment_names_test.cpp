#include "shm/segment_names.hpp"

#include <cstdlib>

#include "common/names.hpp"
#include "shm/test_segment_files.hpp"

namespace moetrace {
namespace {

TEST(SessionName, LettersDigitsDashUnderscore) {
  EXPECT_TRUE(is_session_name("default"));
  EXPECT_TRUE(is_session_name("GPU-3_a"));
  EXPECT_TRUE(is_session_name(std::string(64, 'a')));
  EXPECT_FALSE(is_session_name(std::string(65, 'a')));
  EXPECT_FALSE(is_session_name(""));
  EXPECT_FALSE(is_session_name("a.b"));
  EXPECT_FALSE(is_session_name("a/b"));
  EXPECT_FALSE(is_session_name("é"));
}

TEST(ListSegments, LeavesOutWhatOnlyLooksSimilar) {
  const TestDirectory directory;
  for (const char* file :
       {"moetrace.v1.default.01234567-89ab-cdef-0123-456789abcdef.ctl",
        "moetrace.v1.default.01234567-89AB-cdef-0123-456789abcdef.ring",
        "moetrace.v1.default.0123456789abcdef.ring", "moetrace.v2.default.x.ring",
        "moetrace.v1.ring",
        ".building.moetrace.v1.default.01234567-89ab-cdef-0123-456789abcdef.ring"}) {
    touch(directory.file(file));
  }
  EXPECT_TRUE(list_segments(directory.path(), "default")->empty());
  touch(directory.file(SegmentName{"default", kTraceId}.ring_file()));
  const auto found = list_segments(directory.path(), "default");
  ASSERT_EQ(found->size(), 1u);
  EXPECT_EQ(found->front().trace_id, kTraceId);
}

TEST(ListSegments, WithoutADirectoryIsAnError) {
  const auto found = list_segments("/nonexistent", "default");
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, ErrorCode::kNoDirectory);
}

TEST(RingDirectory, FollowsTheEnvironment) {
  ::setenv("MOETRACE_DIR", "/somewhere", 1);
  EXPECT_EQ(default_ring_directory(), "/somewhere");
  ::setenv("MOETRACE_DIR", "", 1);
  EXPECT_TRUE(default_ring_directory() == "/run/moetrace" ||
              default_ring_directory() == "/dev/shm");
  ::unsetenv("MOETRACE_DIR");
}

}  // namespace
}  // namespace moetrace
