// For tests: a folder that lasts as long as the test, and the path of the test data.
#pragma once

#include <stdlib.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>

namespace moetrace::engine {

// The source folder, or the folder that the environment names.
inline const std::string kTestData = [] {
  const char* elsewhere = std::getenv("MOETRACE_ENGINE_TESTDATA");
  return std::string(elsewhere != nullptr ? elsewhere : MOETRACE_ENGINE_TESTDATA);
}();

class TestFolder {
 public:
  TestFolder() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "moetrace-engine-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr)
      throw std::runtime_error(pattern + ": can't create the folder");
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
