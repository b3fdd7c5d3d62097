// Every defect of a safetensors file is an error with a message, never a read outside the file.
#include "engine/safetensors.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/test_folder.hpp"

namespace moetrace::engine {
namespace {

std::string file_of(const std::string& header, size_t data_bytes) {
  const uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + std::string(data_bytes, '\1');
}

class Safetensors : public ::testing::Test {
 protected:
  std::string why_refused(const std::string& bytes) {
    const auto path = folder_.path() / "x.safetensors";
    EXPECT_TRUE(write_file(path, bytes));
    const auto file = SafetensorsFile::open(path);
    return file ? "" : file.error().message;
  }
  void expect_refused(const std::string& bytes, const std::string& because) {
    EXPECT_NE(why_refused(bytes).find(because), std::string::npos)
        << why_refused(bytes) << " should say: " << because;
  }
  TestFolder folder_;
};

constexpr const char* kGood =
    R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
    R"("b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}})";

TEST_F(Safetensors, ReadsTensorsInPlace) {
  ASSERT_TRUE(write_file(folder_.path() / "model.safetensors", file_of(kGood, 32)));
  const auto checkpoint = Checkpoint::open(folder_.path()).value();
  const TensorView* a = checkpoint.find("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->dtype, Dtype::kFloat32);
  EXPECT_EQ(a->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(a->bytes.size(), 24u);
  EXPECT_EQ(checkpoint.find("b")->dtype, Dtype::kBfloat16);
  EXPECT_EQ(checkpoint.find("c"), nullptr);
  EXPECT_EQ(checkpoint.float32_bytes(), 24u + 16u);
}

TEST_F(Safetensors, WritesHeadersThatItReads) {
  const std::vector<TensorEntry> entries = {{"x", Dtype::kBfloat16, {3, 5}},
                                            {"y", Dtype::kFloat32, {}}};
  const std::string header = safetensors_header(entries);
  EXPECT_EQ(header.size() % 8, 0u);
  ASSERT_TRUE(write_file(folder_.path() / "model.safetensors", header + std::string(34, 'z')));
  const auto checkpoint = Checkpoint::open(folder_.path()).value();
  EXPECT_EQ(checkpoint.find("x")->shape, (std::vector<int64_t>{3, 5}));
  EXPECT_EQ(checkpoint.find("y")->bytes.data() - checkpoint.find("x")->bytes.data(), 30);
}

TEST_F(Safetensors, RefusesBrokenHeaders) {
  expect_refused("", "the file is empty");
  expect_refused("short", "5 bytes are too short");
  expect_refused(std::string(8, '\xFF'), "exceeds the format's limit of 100000000");
  expect_refused(file_of(kGood, 32).substr(0, 40), "the file ends inside its header");
  expect_refused(file_of("{", 0), "not a JSON object");
  expect_refused(file_of("[1]", 0), "not a JSON object");
}

TEST_F(Safetensors, EveryTruncationIsRefused) {
  const std::string whole = file_of(kGood, 32);
  ASSERT_EQ(why_refused(whole), "");
  for (size_t bytes = 0; bytes < whole.size(); ++bytes)
    ASSERT_NE(why_refused(whole.substr(0, bytes)), "") << bytes;
}

TEST_F(Safetensors, RefusesTensorsThatContradictThemselves) {
  const auto tensor = [](const std::string& text) { return file_of(R"({"a":)" + text + "}", 32); };
  expect_refused(tensor("3"), "expected an object with dtype");
  expect_refused(tensor(R"({"dtype":"F32","shape":[2]})"), "expected an object with dtype");
  expect_refused(tensor(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})"), "bad shape");
  expect_refused(tensor(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]})"),
                 "bad shape");
  expect_refused(tensor(R"({"dtype":"F32","shape":[2],"data_offsets":[8]})"), "expected a pair");
  expect_refused(tensor(R"({"dtype":"F32","shape":[2],"data_offsets":[-8,0]})"), "expected a pair");
  expect_refused(tensor(R"({"dtype":"F32","shape":[2],"data_offsets":[16,8]})"),
                 "begins at byte 16, but ends at byte 8");
  expect_refused(tensor(R"({"dtype":"F32","shape":[2],"data_offsets":[28,36]})"),
                 "ends at byte 36, but the file holds only 32 bytes of data: it is truncated");
  expect_refused(tensor(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})"),
                 "has 8 bytes, but its shape and dtype need 12");
  expect_refused(file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                         R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
                         32),
                 "tensors a and b overlap");
}

TEST_F(Safetensors, RequireNamesWhatDiffersFromTheConfig) {
  ASSERT_TRUE(write_file(folder_.path() / "model.safetensors",
                         file_of(R"({"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
                                 R"("i":{"dtype":"I16","shape":[4],"data_offsets":[24,32]}})",
                                 32)));
  const auto checkpoint = Checkpoint::open(folder_.path()).value();
  EXPECT_EQ(checkpoint.require("a", {2, 3}).value(), checkpoint.find("a"));
  const auto why = [&](const char* name, const std::vector<int64_t>& shape) {
    return checkpoint.require(name, shape).error();
  };
  EXPECT_EQ(why("a", {3, 2}).message,
            "weight a has shape [2, 3], but config.json implies [3, 2]; use the config.json that "
            "belongs to these weights");
  EXPECT_EQ(why("a", {3, 2}).code, ErrorCode::kBadModel);
  EXPECT_EQ(why("b", {4}).message,
            "weight b is missing; use the config.json that belongs to these weights");
  EXPECT_EQ(why("i", {4}).message,
            "weight i has dtype I16, which is not supported; save it as F32, BF16 or F16");
  EXPECT_EQ(why("i", {4}).code, ErrorCode::kUnsupported);
}

TEST_F(Safetensors, RefusesBrokenIndexes) {
  const auto index = folder_.path() / "model.safetensors.index.json";
  const auto why = [&] {
    const auto checkpoint = Checkpoint::open(folder_.path());
    return checkpoint ? "" : checkpoint.error().message;
  };
  EXPECT_NE(why().find("found neither"), std::string::npos) << why();
  ASSERT_TRUE(write_file(folder_.path() / "s1.safetensors", file_of(kGood, 32)));
  ASSERT_TRUE(write_file(index, R"({"weight_map":{"a":"s1.safetensors","b":"s1.safetensors"}})"));
  EXPECT_EQ(why(), "");
  ASSERT_TRUE(write_file(index, R"({"weight_map":{"a":"s1.safetensors","c":"s1.safetensors"}})"));
  EXPECT_NE(why().find("tensor c is missing, but the index names it"), std::string::npos) << why();
  ASSERT_TRUE(write_file(index, R"({"weight_map":{"a":"s1.safetensors","b":"s2.safetensors"}})"));
  EXPECT_NE(why().find("s2.safetensors: missing shard of the model"), std::string::npos) << why();
  ASSERT_TRUE(write_file(index, R"({"weight_map":{"a":"../s1.safetensors"}})"));
  EXPECT_NE(why().find("expected a file name without a folder"), std::string::npos) << why();
  ASSERT_TRUE(write_file(index, R"({"weights":{}})"));
  EXPECT_NE(why().find("expected an object with a weight_map"), std::string::npos) << why();
  ASSERT_TRUE(write_file(index, "{"));
  EXPECT_NE(why().find("invalid JSON"), std::string::npos) << why();
}

}  // namespace
}  // namespace moetrace::engine
