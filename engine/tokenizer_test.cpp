// The tokenizer compared with the tokenizers library: with ids and texts that
// scripts/golden-transformers stored.
#include "engine/tokenizer.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/files.hpp"
#include "engine/init_model.hpp"
#include "engine/prompts.hpp"
#include "engine/test_folder.hpp"

namespace moetrace::engine {
namespace {

using nlohmann::json;

json golden() {
  return read_json(std::filesystem::path(kTestData) / "tokenizers.json").value();
}

json tokenizer_file(const std::string& kind) {
  return read_json(std::filesystem::path(kTestData) / ("tokenizer_" + kind + ".json")).value();
}

// 64-bit FNV-1a over the ids as 32-bit little-endian numbers.
std::string fnv1a(const std::vector<int64_t>& ids) {
  uint64_t hash = 0xCBF29CE484222325;
  for (const int64_t id : ids) {
    for (int byte = 0; byte < 4; ++byte)
      hash = (hash ^ (static_cast<uint64_t>(id) >> (8 * byte) & 0xFF)) * 0x100000001B3;
  }
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash));
  return text;
}

class TokenizerGolden : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Kinds, TokenizerGolden, ::testing::Values("qwen2", "gpt2"));

TEST_P(TokenizerGolden, EncodesAndDecodesAsTheLibrary) {
  const auto tokenizer = Tokenizer::parse(tokenizer_file(GetParam()));
  ASSERT_TRUE(tokenizer) << tokenizer.error().message;
  const json all = golden();
  const json& expected = all["tokenizers"][GetParam()];
  for (size_t i = 0; i < all["texts"].size(); ++i) {
    const auto text = all["texts"][i].get<std::string>();
    const auto ids = tokenizer->encode(text).value();
    EXPECT_EQ(ids, expected["ids"][i].get<std::vector<int64_t>>()) << text;
    EXPECT_EQ(tokenizer->decode(ids, /*skip_special=*/false),
              expected["decoded"][i].get<std::string>());
    EXPECT_EQ(tokenizer->decode(ids), expected["decoded_plain"][i].get<std::string>());
    std::vector<int64_t> every_second;
    for (size_t k = 1; k < ids.size(); k += 2) every_second.push_back(ids[k]);
    EXPECT_EQ(tokenizer->decode(every_second), expected["decoded_tails"][i].get<std::string>())
        << text;
  }
}

TEST_P(TokenizerGolden, EncodesTheDemosPromptsAsTheLibrary) {
  const auto tokenizer = Tokenizer::parse(tokenizer_file(GetParam()));
  ASSERT_TRUE(tokenizer);
  const auto prompts = read_prompts(MOETRACE_DEMO_PROMPTS).value();
  const json expected = golden()["tokenizers"][GetParam()]["demo_prompts_fnv1a"];
  ASSERT_EQ(prompts.size(), expected.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    const auto ids = tokenizer->encode(prompts[i]).value();
    EXPECT_EQ(fnv1a(ids), expected[i].get<std::string>()) << "prompt " << i;
    EXPECT_EQ(tokenizer->decode(ids), prompts[i]);  // the prompts are in normal form
  }
}

TEST(Tokenizer, BothFormsOfMergesMeanTheSame) {
  json file = tokenizer_file("qwen2");
  const auto pairs = Tokenizer::parse(file).value();
  ASSERT_TRUE(file["model"]["merges"][0].is_array());
  for (json& merge : file["model"]["merges"]) {
    merge = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
  }
  const auto texts = Tokenizer::parse(file).value();
  EXPECT_EQ(pairs.encode("several words and 12 numbers").value(),
            texts.encode("several words and 12 numbers").value());
}

TEST(Tokenizer, IdsWithoutATokenDecodeToNothing) {
  const auto tokenizer = Tokenizer::parse(tokenizer_file("qwen2")).value();
  auto ids = tokenizer.encode("abc").value();
  ids.insert(ids.begin() + 1, {tokenizer.size(), 151935, -1});
  EXPECT_EQ(tokenizer.decode(ids), "abc");
}

TEST(Tokenizer, RefusesTextThatIsNoUtf8) {
  const auto tokenizer = Tokenizer::parse(tokenizer_file("gpt2")).value();
  EXPECT_EQ(tokenizer.encode("caf\xE9").error().code, ErrorCode::kBadPrompt);
}

TEST(Tokenizer, RandomModelsTokensAreBytes) {
  const TestFolder folder;
  ASSERT_TRUE(init_model(folder.path(), 1, Dtype::kBfloat16));
  const auto tokenizer = Tokenizer::load(folder.path()).value();
  EXPECT_EQ(tokenizer.encode("a\n<|endoftext|>é").value(),
            (std::vector<int64_t>{'a', '\n', 256, 0xC3, 0xA9}));
  EXPECT_EQ(tokenizer.decode({'a', 0xC3, 0xA9, 0xC3, 256}), "aé\uFFFD");
}

TEST(Tokenizer, AddsWhatTheTemplateAsksFor) {
  json file = tokenizer_file("gpt2");
  const int64_t id = file["added_tokens"][0]["id"];
  file["post_processor"] = {
      {"type", "TemplateProcessing"},
      {"single", {{{"SpecialToken", {{"id", "<s>"}}}}, {{"Sequence", {{"id", "A"}}}}}},
      {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {id}}}}}}};
  const auto ids = Tokenizer::parse(file).value().encode("hello").value();
  EXPECT_EQ(ids.front(), id);
}

TEST(Tokenizer, SaysWhatItDoesNotKnow) {
  const auto refused = [](const char* pointer, const json& value) {
    json file = tokenizer_file("qwen2");
    file[json::json_pointer(pointer)] = value;
    const auto tokenizer = Tokenizer::parse(file);
    return tokenizer ? "" : tokenizer.error().message;
  };
  EXPECT_EQ(refused("/model/type", "Unigram"), "model: type Unigram is not supported, only BPE");
  EXPECT_EQ(refused("/model/byte_fallback", true), "model: byte_fallback is not supported");
  EXPECT_EQ(refused("/normalizer", {{"type", "Lowercase"}}),
            "normalizer Lowercase is not supported");
  EXPECT_EQ(refused("/pre_tokenizer", {{"type", "Metaspace"}}),
            "pre_tokenizer: type Metaspace is not supported");
  EXPECT_EQ(refused("/decoder", {{"type", "WordPiece"}}), "decoder WordPiece is not supported");
  EXPECT_NE(refused("/pre_tokenizer/pretokenizers/0/pattern", {{"Regex", "(["}}), "");
  EXPECT_NE(refused("/model/merges/0", "three words here"), "");
  EXPECT_NE(refused("/model/merges/0", {"no", "such"}), "");
  EXPECT_NE(refused("/added_tokens/0", {{"id", "x"}}), "");
}

}  // namespace
}  // namespace moetrace::engine
