#include "producer/settings.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include "shm/layer_mask.hpp"
#include "shm/segment_names.hpp"

namespace moetrace {
namespace {

class SettingsTest : public ::testing::Test {
 protected:
  SettingsTest() {
    for (const char* name :
         {"MOETRACE", "MOETRACE_DIR", "MOETRACE_SESSION", "MOETRACE_LAYERS", "MOETRACE_SAMPLE",
          "MOETRACE_RING_MB", "MOETRACE_ENGINE_ID", "VLLM_LOG_MOE_LAYER"}) {
      ::unsetenv(name);
    }
    moetrace_options_init(&options_, sizeof options_);
    options_.num_layers = 24;
    options_.num_experts = 60;
    options_.top_k = 4;
  }

  Settings resolve() {
    const auto settings = resolve_settings(options_);
    if (settings) return *settings;
    ADD_FAILURE() << settings.error().message;
    return {};
  }
  // The error's message, which must be one line.
  std::string refused() {
    const auto settings = resolve_settings(options_);
    if (settings) return "accepted";
    EXPECT_EQ(settings.error().code, ErrorCode::kBadArgument);
    EXPECT_EQ(settings.error().message.find('\n'), std::string::npos);
    return settings.error().message;
  }
  std::string layers() { return format_layers(resolve().header.layers_logged); }

  moetrace_options options_;
};

TEST_F(SettingsTest, Defaults) {
  const Settings settings = resolve();
  EXPECT_EQ(settings.session, "default");
  EXPECT_EQ(settings.sizes.route_slots, 64u * 1024 * 1024 / 64);
  EXPECT_EQ(settings.header.sample_every, 1u);
  EXPECT_EQ(settings.header.world_size, 1u);
  EXPECT_EQ(settings.header.router_scaling, 1.0);
  EXPECT_EQ(settings.header.flags, 0u);
  EXPECT_EQ(format_layers(settings.header.moe_layers), "0-23");
  EXPECT_EQ(format_layers(settings.header.layers_logged), "0-23");
  EXPECT_STRNE(settings.header.host, "");
}

TEST_F(SettingsTest, OnOffAndNeither) {
  const auto wanted = [](const char* value) {
    ::setenv("MOETRACE", value, 1);
    return tracing_wanted();
  };
  EXPECT_FALSE(*tracing_wanted()) << "unset";
  for (const char* value : {"", "0", "no", "No", "false", "FALSE", "off", "Off"})
    EXPECT_FALSE(*wanted(value)) << value;
  for (const char* value : {"1", "yes", "YES", "true", "True", "on", "oN"})
    EXPECT_TRUE(*wanted(value)) << value;
  for (const char* value : {"2", "00", "y", "n", "nope", "1 ", " ", "trueish", "enabled"}) {
    const auto neither = wanted(value);
    ASSERT_FALSE(neither) << value;
    EXPECT_EQ(neither.error().message,
              "invalid value '" + std::string(value) +
                  "' for MOETRACE: tracing stays off; use 1, yes, true or on, or 0, no, false or "
                  "off");
  }
}

TEST_F(SettingsTest, AnInvalidMoetraceIsOneLineAProcess) {
  ::setenv("MOETRACE", "maybe", 1);
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(moetrace_enabled(), 0);
  EXPECT_EQ(moetrace_enabled(), 0);
  const std::string said = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(said.rfind("moetrace: invalid value 'maybe' for MOETRACE: ", 0), 0u) << said;
  EXPECT_EQ(std::ranges::count(said, '\n'), 1) << said;
}

TEST_F(SettingsTest, TheEnvironmentCompletesTheOptions) {
  ::setenv("MOETRACE_DIR", "/dev/shm/x", 1);
  ::setenv("MOETRACE_SESSION", "mine", 1);
  ::setenv("MOETRACE_LAYERS", "0,5-7", 1);
  ::setenv("MOETRACE_SAMPLE", "10", 1);
  ::setenv("MOETRACE_RING_MB", "0.5", 1);
  const Settings settings = resolve();
  EXPECT_EQ(settings.directory, "/dev/shm/x");
  EXPECT_EQ(settings.session, "mine");
  EXPECT_EQ(format_layers(settings.header.layers_logged), "0,5-7");
  EXPECT_EQ(settings.header.sample_every, 10u);
  EXPECT_EQ(settings.sizes.route_slots, 8192u);
}

TEST_F(SettingsTest, OptionsOverrideTheEnvironment) {
  ::setenv("MOETRACE_DIR", "/dev/shm/x", 1);
  ::setenv("MOETRACE_SESSION", "mine", 1);
  ::setenv("MOETRACE_LAYERS", "nonsense", 1);
  ::setenv("MOETRACE_SAMPLE", "nonsense", 1);
  ::setenv("MOETRACE_RING_MB", "nonsense", 1);
  options_.directory = "/tmp";
  options_.session = "other";
  options_.layers = "3";
  options_.sample_every = 0;
  options_.ring_mb = 1;
  const Settings settings = resolve();
  EXPECT_EQ(settings.directory, "/tmp");
  EXPECT_EQ(settings.session, "other");
  EXPECT_EQ(format_layers(settings.header.layers_logged), "3");
  EXPECT_EQ(settings.header.sample_every, 0u);
  EXPECT_EQ(settings.sizes.route_slots, 16384u);
}

TEST_F(SettingsTest, AnEmptyDirectoryIsNotTheRoot) {
  options_.directory = "";
  EXPECT_EQ(resolve().directory, default_ring_directory());
}

TEST_F(SettingsTest, TheLayerOfVllmsPatchIsAccepted) {
  ::setenv("VLLM_LOG_MOE_LAYER", "5", 1);
  EXPECT_EQ(layers(), "5");
  ::setenv("MOETRACE_LAYERS", "7", 1);
  EXPECT_EQ(layers(), "7") << "moetrace's own variable wins";
  ::unsetenv("MOETRACE_LAYERS");
  ::setenv("VLLM_LOG_MOE_LAYER", "24", 1);
  EXPECT_NE(refused().find("'24' for VLLM_LOG_MOE_LAYER: "), std::string::npos);
}

TEST_F(SettingsTest, EveryBadVariableIsNamed) {
  const auto expect_named = [&](const char* name, std::initializer_list<const char*> values) {
    for (const char* value : values) {
      ::setenv(name, value, 1);
      EXPECT_EQ(refused().rfind("invalid value '" + std::string(value) + "' for " + name + ": ", 0),
                0u)
          << refused();
    }
    ::unsetenv(name);
  };
  expect_named("MOETRACE_LAYERS", {"24", "x", "3-1", "0,"});
  expect_named("MOETRACE_SAMPLE", {"-1", "x", "1.5", "4294967296", "99999999999999999999"});
  expect_named("MOETRACE_RING_MB", {"-1", "x", "0", "64MB", "nan", "inf", "1e300", "1048577"});
}

TEST_F(SettingsTest, EveryBadOptionIsNamed) {
  const auto expect_named = [&](auto moetrace_options::*field, auto value, const char* name) {
    const auto before = options_.*field;
    options_.*field = value;
    EXPECT_EQ(refused().rfind("invalid value '", 0), 0u) << refused();
    EXPECT_NE(refused().find("' for " + std::string(name) + ": "), std::string::npos) << refused();
    options_.*field = before;
  };
  expect_named(&moetrace_options::num_layers, 0u, "num_layers");
  expect_named(&moetrace_options::num_layers, 257u, "num_layers");
  expect_named(&moetrace_options::num_experts, 0u, "num_experts");
  expect_named(&moetrace_options::num_experts, 65536u, "num_experts");
  expect_named(&moetrace_options::top_k, 0u, "top_k");
  expect_named(&moetrace_options::top_k, 33u, "top_k");
  expect_named(&moetrace_options::ring_mb, -1.0, "ring_mb");
  expect_named(&moetrace_options::ring_mb, std::nan(""), "ring_mb");
  expect_named(&moetrace_options::layers, "9-", "layers");
  expect_named(&moetrace_options::sample_every, std::int64_t{1} << 32, "sample_every");
  expect_named(&moetrace_options::router_scaling, std::nan(""), "router_scaling");
}

TEST_F(SettingsTest, DenseLayersAreNotLogged) {
  moetrace_layer_mask moe = first_layers(256);
  moe.words[0] &= ~std::uint64_t{1};
  options_.moe_layers = &moe;
  EXPECT_EQ(layers(), "1-23");
  EXPECT_EQ(format_layers(resolve().header.moe_layers), "1-23") << "cut to the model's layers";
}

TEST_F(SettingsTest, LayersWithoutExpertsAreNamed) {
  const moetrace_layer_mask moe = *parse_layers("1-23", 24);
  options_.moe_layers = &moe;
  EXPECT_EQ(resolve().warning, "");
  ::setenv("MOETRACE_LAYERS", "1,5-7", 1);
  EXPECT_EQ(resolve().warning, "");
  ::setenv("MOETRACE_LAYERS", "0,5-7", 1);
  EXPECT_EQ(layers(), "5-7");
  EXPECT_EQ(
      resolve().warning,
      "MOETRACE_LAYERS '0,5-7': left out layers without experts (0); the MoE layers are 1-23");
  ::setenv("MOETRACE_LAYERS", "all", 1);
  EXPECT_EQ(resolve().warning, "");
}

TEST_F(SettingsTest, LayersWithoutExpertsAloneAreRefused) {
  const moetrace_layer_mask moe = *parse_layers("3-9,11", 24);
  options_.moe_layers = &moe;
  ::setenv("MOETRACE_LAYERS", "0-2,10", 1);
  EXPECT_EQ(refused(),
            "invalid value '0-2,10' for MOETRACE_LAYERS: none of these layers has experts; use "
            "some of 3-9,11, or all");
  ::setenv("MOETRACE_LAYERS", "24", 1);
  EXPECT_EQ(refused(),
            "invalid value '24' for MOETRACE_LAYERS: the MoE layers are 3-9,11; use some of these "
            "as numbers and ranges, such as 0,5-7, or all");
  const moetrace_layer_mask none{};
  options_.moe_layers = &none;
  ::setenv("MOETRACE_LAYERS", "5", 1);
  const std::string no_layers =
      "invalid value '5' for MOETRACE_LAYERS: the model has no MoE layers to record; leave it out, "
      "or check the engine's option moe_layers";
  EXPECT_EQ(refused(), no_layers);
  ::setenv("MOETRACE_LAYERS", "all", 1);
  EXPECT_EQ(layers(), "") << "such a trace only has steps";
}

TEST_F(SettingsTest, TextIsCutBetweenCharacters) {
  const std::string model(255, 'm');
  // The last character has two bytes, 254 and 255, of which only the first would fit.
  const std::string longer = std::string(254, 'x') + "é";
  options_.model_id = longer.c_str();
  EXPECT_EQ(std::string(resolve().header.model_id), std::string(254, 'x'));
  options_.model_id = model.c_str();
  EXPECT_EQ(std::string(resolve().header.model_id), model);
}

TEST_F(SettingsTest, TheRouterIsOnlyDescribedIfItIsKnown) {
  options_.router_renormalized = 1;
  options_.has_seed = 1;
  options_.seed = -5;
  EXPECT_EQ(resolve().header.flags, MOETRACE_HAS_SEED | MOETRACE_ROUTER_RENORMALIZED);
  EXPECT_EQ(resolve().header.seed, -5);
  options_.router_score = "softmax";
  EXPECT_NE(resolve().header.flags & MOETRACE_ROUTER_KNOWN, 0u);
  EXPECT_STREQ(resolve().header.router_score, "softmax");
  EXPECT_EQ(resolve().header.flags & MOETRACE_ROUTER_BIASED, 0u);
  options_.router_biased = 1;
  options_.router_groups = 8;
  options_.router_topk_groups = 4;
  EXPECT_NE(resolve().header.flags & MOETRACE_ROUTER_BIASED, 0u);
  EXPECT_EQ(resolve().header.router_groups, 8u);
  EXPECT_EQ(resolve().header.router_topk_groups, 4u);
}

TEST_F(SettingsTest, NotesAreKeptAsFarAsTheyFit) {
  EXPECT_STREQ(resolve().header.notes, "");
  const std::string notes = "layer 3 is not recorded\n" + std::string(2000, 'n');
  options_.notes = notes.c_str();
  EXPECT_EQ(std::string(resolve().header.notes), notes.substr(0, 1023));
}

TEST_F(SettingsTest, TheEngineIdIsTheOptionsElseTheEnvironments) {
  EXPECT_STREQ(resolve().header.engine_id, "");
  ::setenv("MOETRACE_ENGINE_ID", "blue", 1);
  EXPECT_STREQ(resolve().header.engine_id, "blue");
  options_.engine_id = "red";
  EXPECT_STREQ(resolve().header.engine_id, "red");
  ::unsetenv("MOETRACE_ENGINE_ID");
}

TEST_F(SettingsTest, LayersMayDiffer) {
  EXPECT_TRUE(resolve().layers.empty());
  std::vector<moetrace_layer_entry> table(options_.num_layers);
  table[23].top_k = 2;
  table[23].experts = 60;
  options_.layer_table = table.data();
  const Settings settings = resolve();
  ASSERT_EQ(settings.layers.size(), 24u);
  EXPECT_EQ(settings.layers[23].top_k, 2u);
  EXPECT_EQ(settings.layers[22].top_k, 0u);
  table[23].top_k = 5;
  EXPECT_EQ(refused(),
            "options: layer table, layer 23: top_k is 5; expected at most 4; correct the entry, or "
            "leave it zero");
}

}  // namespace
}  // namespace moetrace
