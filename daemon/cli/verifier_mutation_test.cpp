// Changes every key of every kind of line in every way, and deletes, doubles and moves every line.
// `moetrace verify` must refuse each change that is not listed here with a reason.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "daemon/collector/test_trace.hpp"
#include "trace/verify_files.hpp"

namespace moetrace::cli {
namespace {

using Json = nlohmann::ordered_json;
using Lines = std::vector<Json>;

// A change that `verify` may accept. "*" stands for any text.
struct Accepted {
  std::string type, key, change, reason;
};

const std::vector<Accepted>& accepted() {
  constexpr const char* kSaid = "the engine may give any value";
  constexpr const char* kUnknown = "an unknown value is null";
  constexpr const char* kRouting = "any experts and weights are possible";
  constexpr const char* kEvents = "events without a line leave gaps in the numbers";
  constexpr const char* kCounts = "only its line shows a step that records nothing";
  constexpr const char* kOrder = "a loss line comes when the collector learns of the loss";
  constexpr const char* kTokens = "rows bound them only if both counts and all positions are known";
  constexpr const char* kChoice = "the selection may be larger than the layers that ran";
  constexpr const char* kLate = "a file that starts late does not know the selection";
  constexpr const char* kTime = "a step may come at any time after the one before";
  static const std::vector<Accepted> kAll = {
      {"meta", "model_id", "*", kSaid},
      {"meta", "vllm_version", "*", kSaid},
      {"meta", "torch_version", "*", kSaid},
      {"meta", "device", "*", kSaid},
      {"meta", "seed", "*", kSaid},
      {"meta", "engine", "*", kSaid},
      {"meta", "engine_version", "*", kSaid},
      {"meta", "host", "*", kSaid},
      {"meta", "created_at", "*", "a machine's clock can show any time"},
      {"meta", "notes", "*", kSaid},
      {"meta", "notes[]", "*", kSaid},
      {"meta", "router", "*", kSaid},
      {"meta", "router.*", "*", kSaid},
      {"meta", "rank", "*", kSaid},
      {"meta", "world_size", "*", kSaid},
      {"meta", "ranks", "*", kSaid},
      {"meta", "ranks.*", "*", kSaid},
      {"meta", "num_experts", "plus", "an expert may never be picked"},
      {"meta", "num_experts", "minus", "an expert may never be picked"},
      {"meta", "layers_logged", "shorter", kLate},
      {"meta", "sample_every", "*", kLate},
      {"meta", "engine_id", "null", kUnknown},
      {"meta", "engine_id", "text", kSaid},
      {"meta", "top_k", "plus", "no layer needs to use all places"},
      {"meta", "layers[].experts", "null", kUnknown},
      {"meta", "layers[].zero_experts", "null", kUnknown},
      {"meta", "layers[].top_k", "null", kUnknown},
      {"meta", "layers[].groups", "plus", kSaid},
      {"meta", "layers[].topk_groups", "minus", kSaid},
      {"meta", "layers[].score", "*", kSaid},
      {"meta", "layers[].renormalized", "*", kSaid},
      {"meta", "layers[].scaling", "*", kSaid},
      {"meta", "layers[].biased", "*", kSaid},
      {"meta", "layers[].table", "*", kSaid},
      {"base", "event", "minus", kEvents},
      {"part", "part", "*", "only its line shows the number of a single part"},
      {"part", "event", "minus", kEvents},
      {"part", "step", "null", "the part before says which step is under way"},
      {"meta", "num_layers", "plus", "a layer may have no experts"},
      {"meta", "num_layers", "null", kUnknown},
      {"request", "prompt_tokens", "*", kTokens},
      {"request", "cached_tokens", "*", kTokens},
      {"request", "event", "plus", kEvents},
      {"request", "event", "minus", kEvents},
      {"request", "line", "after loss", kOrder},
      {"request", "line", "deleted", "the part before names the live requests"},
      {"request", "type", "text", "the part before names the live requests"},
      {"request_end", "generated_tokens", "*", kTokens},
      {"request_end", "event", "*", kEvents},
      {"request_end", "line", "after loss", kOrder},
      {"step", "event", "*", kEvents},
      {"step", "step", "*", "steps that were lost leave gaps in the numbers"},
      {"step", "rows", "*", kCounts},
      {"step", "line", "deleted", kCounts},
      {"step", "type", "text", kCounts},
      {"step", "time_ns", "plus", kTime},
      {"step", "time_ns", "minus", kTime},
      {"step", "time_ns", "null", kUnknown},
      {"route", "layer", "plus", "rows of a layer may be missing, and those of the next one not"},
      {"route", "layer", "minus",
       "of a step announced in an earlier file only the number of rows is known"},
      {"route", "token_idx", "*", kTokens},
      {"route", "topk_ids[]", "*", kRouting},
      {"route", "topk_weights[]", "*", kRouting},
      {"route", "line", "after control", "a selection binds rows by their step line"},
      {"route", "line", "after request", "a request may begin while a step runs"},
      {"route", "line", "after torn", kOrder},
      {"torn", "line", "after control", kOrder},
      {"loss", "line", "after request", kOrder},
      {"control", "event", "minus", kEvents},
      {"control", "layers", "*", kChoice},
      {"control", "sample_every", "*", kChoice},
      {"control", "line", "deleted", kEvents},
      {"control", "type", "text", kEvents},
      {"end", "cost", "missing", "older collectors did not write it"},
      {"end", "cost.*", "*", "an engine may have spent any time"},
      {"end", "ring", "missing", "older collectors did not write it"},
      {"end", "ring.slots", "huge", "a ring may have any size"},
      {"end", "ring.slots", "plus", "a ring may have any size"},
      {"end", "ring.high_water", "minus", "no line says how many rows were in the ring"},
  };
  return kAll;
}

bool fits(const std::string& pattern, const std::string& text) {
  if (pattern.ends_with("*")) return text.starts_with(pattern.substr(0, pattern.size() - 1));
  return pattern == text;
}

// The trace of an engine with every kind of event: two requests, a full ring, a full event ring, a
// failed pass, a changed selection.
Lines recorded_trace() {
  const TestDirectory directory;
  const std::string path = directory.file("trace.jsonl");
  Settings settings = test_settings(directory);
  settings.header.flags |= MOETRACE_HAS_SEED | MOETRACE_ROUTER_KNOWN | MOETRACE_ROUTER_BIASED;
  std::strcpy(settings.header.router_score, "softmax");
  std::strcpy(settings.header.notes, "made up\n");
  settings.header.router_groups = settings.header.router_topk_groups = 2;
  std::strcpy(settings.header.engine_id, "e7");
  settings.layers.resize(kTestLayers);
  moetrace_layer_entry& known = settings.layers[0];
  known.experts = 6;
  known.zero_experts = 2;
  known.top_k = kTestTopK;
  known.flags = 2 * MOETRACE_LAYER_GROUPS_KNOWN - 1;
  known.groups = known.topk_groups = 2;
  known.scaling = 2.5;
  std::strcpy(known.score, "softmax");
  settings.layers[1].top_k = 1;
  auto producer = *RingProducer::open(settings);
  const auto collector = *attach(directory, producer->name(), path);
  auto& requests = producer->requests();

  const std::uint64_t first = requests.begin("r0", 3, 0);
  run_step(*producer, first, 0, 3);
  EXPECT_TRUE(drain(*collector));
  run_step(*producer, first, 3, 1);
  const std::uint64_t second = requests.begin("r1", 39, 8);
  // Fills the ring; the second step finds no room.
  run_step(*producer, second, 8, 31);
  run_step(*producer, first, 4, 1);
  requests.end(second, 1, "length");
  EXPECT_TRUE(drain(*collector));
  std::vector<std::uint64_t> many;
  for (bool room = true; room;) {
    room = producer->events().fits(5);
    many.push_back(requests.begin(std::string(250, 'n') + std::to_string(many.size()), 1, 0));
  }
  // Can't be announced: the last request waits for room.
  run_step(*producer, first, 5, 1);
  EXPECT_TRUE(drain(*collector));
  for (const std::uint64_t request : many) requests.end(request, MOETRACE_UNKNOWN_TOKENS, "stop");
  // Fails after the first layer.
  run_step(*producer, first, 6, 1, 1);
  producer->abort_step();
  EXPECT_TRUE(drain(*collector));
  write_control(producer->map(), {true, 1, {{0b01, 0, 0, 0}}});
  run_step(*producer, first, 7, 1);
  write_control(producer->map(), {true, 0, {{0b11, 0, 0, 0}}});
  // Only counts.
  run_step(*producer, first, 8, 1);
  requests.end(first, 7, "stop");
  producer.reset();
  EXPECT_TRUE(drain(*collector));

  Lines all;
  std::istringstream text(read_text(path));
  for (std::string line; std::getline(text, line);) all.push_back(Json::parse(line));
  return all;
}

Lines lines(std::initializer_list<const char*> texts) {
  Lines lines;
  for (const char* text : texts) lines.push_back(Json::parse(text));
  return lines;
}

constexpr const char* kMeta =
    R"({"type":"meta","model_id":"m","vllm_version":null,"torch_version":null,"device":"cpu","seed":null,"layers_logged":[0,1],"top_k":2,"num_experts":8,"schema":"moetrace/1","trace_id":"00000000-0000-4000-8000-000000000001","engine":"e","engine_version":null,"num_layers":2,"router":null,"rank":0,"world_size":1,"ranks":{"tp":0,"dp":0,"pp":0,"ep":0},"host":null,"created_at":1.5,"sample_every":1})";
// One of two rows of layer 1 of step 0 is open.
constexpr const char* kSecondRow =
    R"({"type":"route","req_id":"r0","token_idx":1,"layer":1,"topk_ids":[5,6],"topk_weights":[0.5,0.25],"request":0,"step":0,"seq":3})";
constexpr const char* kNextStep =
    R"({"type":"step","step":1,"rows":1,"layers":2,"time_ns":20,"seq":4,"dropped_total":0,"event":3,"attempted_total":6,"delivered_total":4,"filtered_total":0,"torn_total":0,"event_lost_total":0})";
constexpr const char* kNextRow =
    R"({"type":"route","req_id":"r0","token_idx":2,"layer":0,"topk_ids":[1,2],"topk_weights":[0.5,0.25],"request":0,"step":1,"seq":4})";
constexpr const char* kLastRow =
    R"({"type":"route","req_id":"r0","token_idx":2,"layer":1,"topk_ids":[3,4],"topk_weights":[0.5,0.25],"request":0,"step":1,"seq":5})";
constexpr const char* kRequestEnd =
    R"({"type":"request_end","req_id":"r0","generated_tokens":2,"status":"length","request":0,"event":5})";
constexpr const char* kEnd =
    R"({"type":"end","attempted":3,"delivered":3,"filtered":0,"dropped":0,"torn":0,"status":"closed","cost":{"announce_ns":5,"hook_ns":null}})";
constexpr const char* kLiveRequest =
    R"({"type":"request","req_id":"r0","prompt_tokens":2,"cached_tokens":0,"request":0,"event":null})";

// The file of a collector that did not find the earlier file.
Lines late_trace() {
  return lines(
      {kMeta,
       R"({"type":"base","seq":3,"event":3,"step":0,"open":1,"dropped_total":0,"attempted_total":4,"delivered_total":3,"filtered_total":0,"torn_total":0,"event_lost_total":0})",
       kLiveRequest, kSecondRow, kNextStep, kNextRow, kLastRow, kRequestEnd, kEnd});
}

// A trace in two parts.
std::vector<Lines> parts() {
  return {
      lines(
          {kMeta,
           R"({"type":"request","req_id":"r0","prompt_tokens":2,"cached_tokens":0,"request":0,"event":0})",
           R"({"type":"step","step":0,"rows":2,"layers":2,"time_ns":10,"seq":0,"dropped_total":0,"event":1,"attempted_total":4,"delivered_total":0,"filtered_total":0,"torn_total":0,"event_lost_total":0})",
           R"({"type":"route","req_id":"r0","token_idx":0,"layer":0,"topk_ids":[1,2],"topk_weights":[0.5,0.25],"request":0,"step":0,"seq":0})",
           R"({"type":"route","req_id":"r0","token_idx":1,"layer":0,"topk_ids":[3,4],"topk_weights":[0.5,0.25],"request":0,"step":0,"seq":1})",
           R"({"type":"route","req_id":"r0","token_idx":0,"layer":1,"topk_ids":[1,7],"topk_weights":[0.5,0.25],"request":0,"step":0,"seq":2})",
           R"({"type":"end","attempted":3,"delivered":3,"filtered":0,"dropped":0,"torn":0,"status":"continued","cost":{"announce_ns":5,"hook_ns":null},"open":1})"}),
      lines(
          {kMeta,
           R"({"type":"part","part":2,"seq":3,"event":3,"step":0,"open":1,"dropped_total":0,"attempted_total":4,"delivered_total":3,"filtered_total":0,"torn_total":0,"event_lost_total":0})",
           kLiveRequest, kSecondRow, kNextStep, kNextRow, kLastRow, kRequestEnd, kEnd})};
}

class VerifierMutationTest : public testing::Test {
 protected:
  // Writes the parts and verifies them. Returns "good", or the error or warning.
  std::string verdict(const std::vector<Lines>& parts) {
    std::vector<std::string> files;
    for (const Lines& part : parts) {
      files.push_back(directory_.file(std::to_string(files.size()) + ".jsonl"));
      std::string text;
      for (const Json& line : part) text += line.dump() + "\n";
      write_text(files.back(), text);
    }
    const auto summary = trace::verify_trace(files);
    if (!summary) return "wrong: " + summary.error().message;
    return summary->warnings.empty() ? "good" : "strange: " + summary->warnings.front();
  }

  void expect_found(const std::string& type, const std::string& key, const std::string& change,
                    const std::vector<Lines>& parts) {
    ++tried_;
    if (verdict(parts) != "good") return;
    for (std::size_t n = 0; n < accepted().size(); ++n) {
      const Accepted& entry = accepted()[n];
      if (fits(entry.type, type) && fits(entry.key, key) && fits(entry.change, change)) {
        used_.insert(n);
        return;
      }
    }
    if (missed_.insert(type + " " + key + " " + change).second) {
      ADD_FAILURE() << "accepted: " << type << " " << key << " " << change;
    }
  }

  // Changes each value, also in lists and objects.
  void mutate_values(std::vector<Lines>& parts, const std::string& type, const std::string& key,
                     Json& value) {
    const Json before = value;
    const auto put = [&](const std::string& change, const Json& after) {
      if (after == before) return;
      value = after;
      expect_found(type, key, change, parts);
      value = before;
    };
    put("null", nullptr);
    put("other type", before.is_string() ? Json(5) : Json("text"));
    if (before.is_number()) {
      put("negative", -1);
      put("huge", UINT64_MAX);
      put("fraction", 0.5);
    }
    if (before.is_number_unsigned()) {
      put("plus", before.get<std::uint64_t>() + 1);
      if (before > 0) put("minus", before.get<std::uint64_t>() - 1);
    }
    if (before.is_string()) put("text", before.get<std::string>() + "x");
    if (before.is_boolean()) put("flipped", !before.get<bool>());
    if (before.is_array()) {
      Json longer = before;
      longer.push_back(before.empty() ? Json(0) : before.back());
      put("longer", longer);
      Json shorter = before;
      if (!before.empty()) shorter.erase(shorter.size() - 1);
      put("shorter", shorter);
    }
    if (!before.is_structured()) return;
    for (const auto& item : before.items()) {
      const bool in_list = before.is_array();
      Json& inner = in_list ? value.at(std::stoul(item.key())) : value.at(item.key());
      mutate_values(parts, type, key + (in_list ? "[]" : "." + item.key()), inner);
    }
  }

  void mutate(std::vector<Lines> parts) {
    ASSERT_EQ(verdict(parts), "good");
    for (std::size_t part = 0; part < parts.size(); ++part) {
      for (std::size_t n = 0; n < parts[part].size(); ++n) {
        Json& line = parts[part][n];
        const Json before = line;
        const std::string type = before.at("type");
        for (const auto& item : before.items()) {
          mutate_values(parts, type, item.key(), line.at(item.key()));
          line.erase(item.key());
          expect_found(type, item.key(), "missing", parts);
          line = before;
        }
        mutate_lines(parts, part, n);
      }
    }
  }

  void mutate_lines(const std::vector<Lines>& parts, std::size_t part, std::size_t n) {
    const std::string type = parts[part][n].at("type");
    const auto at = [&](Lines& lines) { return lines.begin() + static_cast<std::ptrdiff_t>(n); };
    std::vector<Lines> changed = parts;
    changed[part].erase(at(changed[part]));
    expect_found(type, "line", "deleted", changed);
    changed = parts;
    changed[part].insert(at(changed[part]), parts[part][n]);
    expect_found(type, "line", "doubled", changed);
    if (n + 1 == parts[part].size() || parts[part][n] == parts[part][n + 1]) return;
    changed = parts;
    std::swap(changed[part][n], changed[part][n + 1]);
    expect_found(type, "line", "after " + parts[part][n + 1].at("type").get<std::string>(),
                 changed);
  }

  TestDirectory directory_;
  std::uint64_t tried_ = 0;
  std::set<std::size_t> used_;
  std::set<std::string> missed_;
};

TEST_F(VerifierMutationTest, OnlyWhatIsListedPasses) {
  mutate({recorded_trace()});
  mutate({late_trace()});
  mutate({parts().front()});
  mutate({parts().back()});
  mutate(parts());
  EXPECT_GT(tried_, 10'000u);
  for (std::size_t n = 0; n < accepted().size(); ++n) {
    const Accepted& entry = accepted()[n];
    EXPECT_TRUE(used_.contains(n)) << "is refused by now, take it off the list: " << entry.type
                                   << " " << entry.key << " " << entry.change;
  }
}

}  // namespace
}  // namespace moetrace::cli
