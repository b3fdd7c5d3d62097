// config.json as transformers writes it before and from version 5, and the errors of bad values.
#include "engine/config.hpp"

#include <gtest/gtest.h>

#include <cstdint>
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

// The public config.json of Qwen1.5-MoE-A2.7B.
json full_model() {
  return json::parse(
      R"({"architectures":["Qwen2MoeForCausalLM"],"attention_dropout":0.0,"bos_token_id":151643,
    "eos_token_id":151643,"hidden_act":"silu","hidden_size":2048,"initializer_range":0.02,"intermediate_size":5632,
    "max_position_embeddings":8192,"max_window_layers":21,"model_type":"qwen2_moe","num_attention_heads":16,
    "num_hidden_layers":24,"num_key_value_heads":16,"rms_norm_eps":1e-06,"rope_theta":1000000.0,"sliding_window":32768,
    "tie_word_embeddings":false,"torch_dtype":"bfloat16","use_cache":true,"use_sliding_window":false,"vocab_size":151936,
    "decoder_sparse_step":1,"moe_intermediate_size":1408,"shared_expert_intermediate_size":5632,"num_experts_per_tok":4,
    "num_experts":60,"norm_topk_prob":false,"output_router_logits":false,"router_aux_loss_coef":0.001})");
}

TEST(Config, FullModelsNumbers) {
  const auto config = parse_config(full_model()).value();
  EXPECT_EQ(config.hidden_size, 2048);
  EXPECT_EQ(config.num_layers, 24);
  EXPECT_EQ(config.num_heads, 16);
  EXPECT_EQ(config.head_dim, 128);
  EXPECT_EQ(config.moe_intermediate_size, 1408);
  EXPECT_EQ(config.shared_intermediate_size, 5632);
  EXPECT_EQ(config.vocab_size, 151936);
  EXPECT_EQ(config.rope_theta, 1e6);
  EXPECT_EQ(config.dtype, Dtype::kBfloat16);
  EXPECT_EQ(config.end_tokens, std::vector<int64_t>{151643});
  EXPECT_FALSE(config.norm_topk_prob);
  EXPECT_TRUE(config.is_moe_layer(0));
}

TEST(Config, NewSpellings) {
  json object = full_model();
  object.erase("rope_theta");
  object.erase("torch_dtype");
  object["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 50000.0}};
  object["dtype"] = "float16";
  object["eos_token_id"] = {1, 2};
  const auto config = parse_config(object).value();
  EXPECT_EQ(config.rope_theta, 50000.0);
  EXPECT_EQ(config.dtype, Dtype::kFloat16);
  EXPECT_EQ(config.end_tokens, (std::vector<int64_t>{1, 2}));
}

TEST(Config, SparseStepsAndDenseLayers) {
  json object = full_model();
  object["decoder_sparse_step"] = 2;
  object["mlp_only_layers"] = {3};
  const auto config = parse_config(object).value();
  EXPECT_FALSE(config.is_moe_layer(0));
  EXPECT_TRUE(config.is_moe_layer(1));
  EXPECT_FALSE(config.is_moe_layer(3));
  EXPECT_TRUE(config.is_moe_layer(5));
}

TEST(Config, RefusesWhatItDoesNotDo) {
  const auto code = [](const char* key, const json& value) {
    json object = full_model();
    object[key] = value;
    const auto config = parse_config(object);
    return config ? std::string()
                  : (config.error().code == ErrorCode::kUnsupported ? "unsupported" : "bad");
  };
  EXPECT_EQ(code("architectures", {"LlamaForCausalLM"}), "unsupported");
  EXPECT_EQ(code("rope_scaling", {{"type", "yarn"}, {"factor", 4.0}}), "unsupported");
  EXPECT_EQ(code("rope_parameters", {{"rope_type", "linear"}}), "unsupported");
  EXPECT_EQ(code("use_sliding_window", true), "unsupported");
  EXPECT_EQ(code("hidden_act", "gelu"), "unsupported");
  EXPECT_EQ(code("torch_dtype", "int8"), "unsupported");
  EXPECT_EQ(code("quantization_config", json::object()), "unsupported");
  EXPECT_EQ(code("num_experts_per_tok", 61), "bad");
  EXPECT_EQ(code("num_key_value_heads", 5), "bad");
  EXPECT_EQ(code("hidden_size", -1), "bad");
  EXPECT_EQ(code("hidden_size", "big"), "bad");
  EXPECT_EQ(code("num_experts", nullptr), "bad");
  EXPECT_EQ(code("head_dim", 33), "bad");
}

TEST(Config, ErrorsNameTheValueAndWhatIsExpected) {
  const auto why = [](const char* key, const json& value) {
    json object = full_model();
    object[key] = value;
    return parse_config(object).error().message;
  };
  EXPECT_EQ(why("hidden_size", -1), "hidden_size is -1, expected an integer from 1 to 16777216");
  EXPECT_EQ(why("hidden_size", "big"),
            "hidden_size is \"big\", expected an integer from 1 to 16777216");
  EXPECT_EQ(why("rms_norm_eps", 0), "rms_norm_eps is 0, expected a number above 0");
  EXPECT_EQ(why("norm_topk_prob", "yes"), "norm_topk_prob is \"yes\", expected true or false");
  EXPECT_EQ(why("hidden_act", 7), "hidden_act is 7, expected a string");
  EXPECT_EQ(why("num_experts_per_tok", 61),
            "num_experts_per_tok is 61, but num_experts is only 60");
  EXPECT_EQ(why("num_key_value_heads", 5),
            "num_attention_heads is 16, expected a multiple of num_key_value_heads, which is 5");
  EXPECT_EQ(why("rope_scaling", "linear"), "rope_scaling is \"linear\", expected an object");
  EXPECT_EQ(why("num_hidden_layers", 1025), "1025 layers are not supported, at most 1024");
  // A long value is cut, so that the error stays readable.
  EXPECT_LT(why("hidden_size", std::string(5000, 'x')).size(), 150u);
}

TEST(Config, GenerationConfigSaysWhatEndsAText) {
  const TestFolder folder;
  ASSERT_TRUE(write_file(folder.path() / "config.json", full_model().dump()));
  EXPECT_EQ(load_config(folder.path()).value().end_tokens, std::vector<int64_t>{151643});
  ASSERT_TRUE(
      write_file(folder.path() / "generation_config.json", R"({"eos_token_id":[151645,151643]})"));
  const auto config = load_config(folder.path()).value();
  EXPECT_EQ(config.end_tokens, (std::vector<int64_t>{151645, 151643}));
  EXPECT_EQ(config.model_id, folder.path().filename());
}

TEST(InitModel, WritesTheSameBytesEverywhere) {
  const TestFolder folder;
  ASSERT_TRUE(init_model(folder.path(), 1234, Dtype::kFloat32));
  const std::string weights = read_file(folder.path() / "model.safetensors").value();
  uint64_t hash = 0xCBF29CE484222325;
  for (const char c : weights) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3;
  EXPECT_EQ(hash, 0x8744F120BE5AA23Eu);
  ASSERT_TRUE(init_model(folder.path(), 5, Dtype::kFloat32)) << "it may write its own folder again";
  EXPECT_NE(read_file(folder.path() / "model.safetensors").value(), weights);
}

TEST(InitModel, LeavesOtherFoldersAlone) {
  const TestFolder folder;
  ASSERT_TRUE(write_file(folder.path() / "config.json", full_model().dump()));
  const auto made = init_model(folder.path(), 1234, Dtype::kFloat32);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, ErrorCode::kCantWrite);
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "model.safetensors"));
}

TEST(Prompts, FilesKeepTextsExactly) {
  const TestFolder folder;
  const std::vector<std::string> texts = {"one\n", "two\n---\nstill two", " three  "};
  ASSERT_TRUE(write_file(folder.path() / "p.txt", join_prompts(texts)));
  EXPECT_EQ(read_file(folder.path() / "p.txt").value(),
            "one\n\n\n---\n\ntwo\n---\nstill two\n\n---\n\n three  ");
  EXPECT_EQ(read_prompts(folder.path() / "p.txt").value(), texts);
}

TEST(Prompts, RefusesWhatIsNoPrompt) {
  const TestFolder folder;
  const auto path = folder.path() / "p.txt";
  for (const std::string content : {"", "\n \n", "a\n\n---\n\n", "\n\n---\n\nb", "caf\xE9"}) {
    ASSERT_TRUE(write_file(path, content));
    const auto prompts = read_prompts(path);
    ASSERT_FALSE(prompts) << content;
    EXPECT_EQ(prompts.error().code, ErrorCode::kBadPrompt);
  }
}

TEST(Prompts, TakesTheFirstQuestions) {
  const TestFolder folder;
  const auto path = folder.path() / "q.jsonl";
  ASSERT_TRUE(write_file(
      path,
      "{\"question\":\"a \\u00e9?\",\"answer\":\"1\"}\n{\"question\":\"b\"}\n{\"text\":1}\n"));
  EXPECT_EQ(read_gsm8k(path, 2).value(), (std::vector<std::string>{"a é?", "b"}));
  EXPECT_NE(read_gsm8k(path, 3).error().message.find("line 3"), std::string::npos);
  ASSERT_TRUE(write_file(path, "{\"question\":\"a\"}\n"));
  EXPECT_NE(read_gsm8k(path, 2).error().message.find("only 1 question"), std::string::npos);
}

}  // namespace
}  // namespace moetrace::engine
