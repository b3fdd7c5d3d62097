// For tests: a folder that is gone when the test is over, and where the test data lies.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <stdexcept>
#include <string>

namespace moetrace::engine {

// Where this was built; MOETRACE_ENGINE_TESTDATA names another place.
inline const std::string kTestData = [] {
  const char* elsewhere = std::getenv("MOETRACE_ENGINE_TESTDATA");
  return std::string(elsewhere != nullptr ? elsewhere : MOETRACE_ENGINE_TESTDATA);
}();

class TestFolder {
 public:
  TestFolder() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "moetrace-engine-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = pattern;
  }
  ~TestFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace moetrace::engine
