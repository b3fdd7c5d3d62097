#include "shm/system_error.hpp"

#include <gtest/gtest.h>

#include <cerrno>

namespace moetrace {
namespace {

TEST(SystemError, ErrorsOfTheSystemSayWhatToTry) {
  const auto said = [](int number, RingFile file) {
    return system_error("x", "can't open it", number, file).message;
  };
  for (const RingFile file : {RingFile::kOwn, RingFile::kOther}) {
    EXPECT_NE(said(ENOMEM, file).find("ulimit -v"), std::string::npos);
    EXPECT_NE(said(EAGAIN, file).find("ulimit -l"), std::string::npos);
    EXPECT_NE(said(EMFILE, file).find("ulimit -n"), std::string::npos);
    EXPECT_NE(said(ENFILE, file).find("fs.file-max"), std::string::npos);
    EXPECT_NE(said(EOPNOTSUPP, file).find("local tmpfs"), std::string::npos);
  }
  EXPECT_NE(said(EACCES, RingFile::kOther).find("MOETRACE_GROUP"), std::string::npos);
  EXPECT_NE(said(EACCES, RingFile::kOwn).find("MOETRACE_DIR"), std::string::npos);
}

}  // namespace
}  // namespace moetrace
