#include "shm/file_lock.hpp"

#include <unistd.h>

#include <fstream>

#include "shm/test_directory.hpp"

namespace moetrace {
namespace {

TEST(FileLock, KnowsThatItsFileHasLostItsName) {
  const TestDirectory directory;
  const std::string path = directory.file("x.ctl");
  std::ofstream(path) << "x";
  const auto lock = FileLock::acquire(path, 0);
  ASSERT_TRUE(lock);
  EXPECT_TRUE(lock->linked());
  ::unlink(path.c_str());
  EXPECT_FALSE(lock->linked());
  EXPECT_EQ(FileLock::acquire(path, 0).error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace moetrace
