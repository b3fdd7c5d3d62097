// The verifier on traces whose layers differ in experts or top-k.
#include <nlohmann/json.hpp>
#include <string>

#include "trace/verifier_fixture.hpp"

namespace moetrace::trace {
namespace {

// Layer 1 has top-1 of 4 experts, and layer 0 everything that meta says.
class LayersThatDiffer : public VerifierTest {
 protected:
  LayersThatDiffer() {
    declare(R"([{"layer":0},{"layer":1,"experts":3,"zero_experts":1,"top_k":1}])");
    for (const std::size_t line : {6, 7, 10}) {
      edit(line, R"("topk_ids":[1,2],"topk_weights":[0.5,0.25])",
           R"("topk_ids":[3],"topk_weights":[0.5])");
    }
  }
  // What `layers` leaves out of its entries is null.
  void declare(const std::string& layers) {
    auto list = nlohmann::ordered_json::parse(layers);
    if (list.is_array()) {
      for (auto& entry : list) {
        if (!entry.is_object()) continue;
        for (const char* key : {"experts", "zero_experts", "top_k", "score", "renormalized",
                                "scaling", "biased", "groups", "topk_groups", "table"})
          entry.emplace(key, nullptr);
      }
    }
    declare_text(list.dump());
  }
  void declare_text(const std::string& layers) {
    std::string& line = lines_[0];
    line.resize(line.rfind(R"("sample_every":1)"));
    line += R"("sample_every":1,"engine_id":"e7","layers":)" + layers + "}";
  }
};

TEST_F(LayersThatDiffer, IsGood) {
  EXPECT_EQ(verdict(), "good");
}

TEST_F(LayersThatDiffer, ARowHasTheTopKOfItsLayer) {
  edit(6, R"("topk_ids":[3],"topk_weights":[0.5])", R"("topk_ids":[3,2],"topk_weights":[0.5,0])");
  EXPECT_TRUE(verdict().starts_with(R"(line 6: "topk_ids" has 2 entries, top_k of layer 1 is 1)"))
      << verdict();
  edit(6, R"("topk_ids":[3,2])", R"("topk_ids":[3])");
  EXPECT_TRUE(
      verdict().starts_with(R"(line 6: "topk_weights" has 2 entries, top_k of layer 1 is 1)"))
      << verdict();
}

TEST_F(LayersThatDiffer, IdsAreTheLayersOwn) {
  edit(10, "[3]", "[4]");
  EXPECT_TRUE(verdict().starts_with("line 10: expert id 4 is out of range (0 to 3 in layer 1)"))
      << verdict();
}

TEST_F(LayersThatDiffer, LayersOfRowsAreDeclared) {
  declare(R"([{"layer":1,"experts":3,"zero_experts":1,"top_k":1}])");
  EXPECT_TRUE(verdict().starts_with(R"(line 1: "layers_logged" has layer 0, which "layers" lacks)"))
      << verdict();
  edit(1, R"("layers_logged":[0,1])", R"("layers_logged":[1])");
  EXPECT_TRUE(verdict().starts_with(R"(line 4: is a row of layer 0, which "layers" in meta lacks)"))
      << verdict();
  insert(
      4,
      R"({"type":"control","layers":[0],"sample_every":1,"from_step":1,"enabled":true,"event":2})");
  EXPECT_TRUE(
      verdict().starts_with(R"(line 4: "layers" has layer 0, which "layers" in meta lacks)"))
      << verdict();
}

TEST_F(LayersThatDiffer, AllKeysArePresent) {
  declare_text(R"([{"layer":0}])");
  EXPECT_TRUE(verdict().starts_with(R"(line 1: "layers" has an entry without "experts")"))
      << verdict();
  declare("null");
  edit(1, R"("engine_id":"e7",)", "");
  EXPECT_TRUE(verdict().starts_with(R"(line 1: missing key "engine_id")")) << verdict();
}

TEST_F(LayersThatDiffer, DeclarationsThatCannotBe) {
  const auto why = [this](const std::string& layers) {
    declare(layers);
    const std::string whole = verdict();
    return whole.substr(0, whole.find(';'));
  };
  const std::string line = R"(line 1: "layers" in the meta line )";
  EXPECT_EQ(why("7"), line + "must be a list of objects or null");
  EXPECT_EQ(why("[7]"), line + "must be a list of objects");
  EXPECT_EQ(why("[{}]"), line + "has an entry without \"layer\"");
  EXPECT_EQ(why(R"([{"layer":0},{"layer":0}])"), line + "must rise by \"layer\"");
  EXPECT_EQ(why(R"([{"layer":0,"top_k":3}])"),
            line + R"(has an entry that is wrong: "top_k" in the meta line must be a whole number )"
                   "from 1 to 2");
  EXPECT_EQ(why(R"([{"layer":0,"experts":6,"zero_experts":3}])"),
            line + "has layer 0 with more experts than \"num_experts\"");
  EXPECT_EQ(why(R"([{"layer":0},{"layer":1},{"layer":2}])"),
            "line 1: \"layers\" has layer 2, the model has 2 layers");
  EXPECT_EQ(why(R"([{"layer":0},{"layer":1,"groups":2,"topk_groups":3}])"),
            "line 1: \"layers\" has layer 1, whose \"topk_groups\" do not fit its \"groups\"");
}

}  // namespace
}  // namespace moetrace::trace
