// Templates of output names, and the names that follow from them.
#include "daemon/collector/output_template.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "daemon/collector/output_names.hpp"
#include "shm/test_directory.hpp"

namespace moetrace {
namespace {

namespace fs = std::filesystem;

const TraceLabels kLabels = {.trace_id = "0190163d-8694-739b-aea5-966c26f8ad91",
                             .rank = 3,
                             .model = "Qwen/Qwen1.5-MoE",
                             .host = "gpu-7",
                             // 2026-12-31 23:59:59.9 UTC
                             .created_realtime_ns = 1'798'761'599'900'000'000};

std::string first_name(const std::string& output, const TraceLabels& labels = kLabels) {
  CollectorOptions options;
  options.output = output;
  return OutputNames(options, labels).name(1);
}

TEST(OutputTemplate, FillsPlaceholders) {
  EXPECT_EQ(fill_template("{model} {host} {rank} {trace} {date}", kLabels),
            "Qwen_Qwen1.5-MoE gpu-7 3 0190163d-8694-739b-aea5-966c26f8ad91 2026-12-31");
  EXPECT_EQ(fill_template("{{model}} } {{{rank}}}", kLabels), "{model} } {3}");
  EXPECT_EQ(fill_template("{model}/{host}", {.trace_id = "x"}), "unknown/unknown");
  EXPECT_EQ(fill_template("{date}", {.created_realtime_ns = -1}), "1969-12-31");
  EXPECT_EQ(fill_template(template_of("a{b}}{{c"), kLabels), "a{b}}{{c");
}

TEST(OutputTemplate, SaysWhatIsWrong) {
  EXPECT_EQ(template_error("/a/{model}/{{x}}/}.jsonl"), "");
  EXPECT_EQ(template_error("{modle}"), "unknown placeholder {modle}; did you mean {model}?");
  EXPECT_EQ(template_error("{}"),
            "unknown placeholder {}; use {model}, {host}, {rank}, {trace}, {date}, or {{ for a "
            "brace");
  EXPECT_EQ(template_error("a{model"), "'{' has no '}'; write {{ for a brace");
}

// An engine can call its model what it likes, and must not choose another folder by that.
TEST(OutputTemplate, AValueIsOneSafePartOfAName) {
  const auto filled = [](const std::string& model) {
    return fill_template("{model}", {.model = model});
  };
  EXPECT_EQ(filled("../../etc"), "_._.._etc");
  EXPECT_EQ(filled(".."), "_.");
  EXPECT_EQ(filled("."), "_");
  EXPECT_EQ(filled("a\n\x7f\x01"), "a___");
  EXPECT_EQ(filled("a\xc2\x85\xff"), "a__");
  EXPECT_EQ(filled("{rank}"), "{rank}");
  EXPECT_EQ(filled("\xe6\xa8\xa1\xe5\x9e\x8b"), "\xe6\xa8\xa1\xe5\x9e\x8b");
  EXPECT_EQ(filled(std::string(255, 'x')), std::string(100, 'x'));
  // No character is cut in two.
  EXPECT_EQ(filled("x" + std::string(200, '\xe6').replace(0, 3, "\xe6\xa8\xa1")).substr(0, 4),
            "x\xe6\xa8\xa1");
  std::string wide = "x";
  for (int n = 0; n < 80; ++n) wide += "\xe6\xa8\xa1";
  EXPECT_EQ(filled(wide).size(), 100);
  EXPECT_EQ(filled("xx" + wide).size(), 99);
}

TEST(OutputTemplate, FixedFolder) {
  EXPECT_EQ(fixed_folder("/data/{date}/x/{model}.jsonl"), "/data");
  EXPECT_EQ(fixed_folder("/data/x/{model}.jsonl"), "/data/x");
  EXPECT_EQ(fixed_folder("/data/{{x}}/y.jsonl"), "/data/{x}");
  EXPECT_EQ(fixed_folder("{model}/x.jsonl"), ".");
  EXPECT_EQ(fixed_folder("x.jsonl"), ".");
  EXPECT_EQ(fixed_folder("/{model}"), "/");
}

TEST(OutputNames, TheRankIsToldApartOnce) {
  EXPECT_EQ(first_name("/d/t.jsonl"), "/d/t.rank3.jsonl");
  EXPECT_EQ(first_name("/d/{model}.jsonl"), "/d/Qwen_Qwen1.5-MoE.rank3.jsonl");
  EXPECT_EQ(first_name("/d/{rank}.jsonl"), "/d/3.jsonl");
  EXPECT_EQ(first_name("/d/{rank}/t.jsonl"), "/d/3/t.jsonl");
  EXPECT_EQ(first_name("/d/{trace}.jsonl"), "/d/" + kLabels.trace_id + ".jsonl");
  TraceLabels rank_0 = kLabels;
  rank_0.rank = 0;
  EXPECT_EQ(first_name("/d/{model}.jsonl", rank_0), "/d/Qwen_Qwen1.5-MoE.jsonl");
  EXPECT_EQ(first_name("t.jsonl", rank_0), "t.jsonl");
  EXPECT_EQ(first_name("./t.jsonl", rank_0), "./t.jsonl");
}

TEST(OutputNames, AValueHasNoExtension) {
  CollectorOptions options;
  options.output = "/d/{model}";
  TraceLabels labels = kLabels;
  labels.rank = 0;
  const OutputNames names(options, labels);
  EXPECT_EQ(names.name(1), "/d/Qwen_Qwen1.5-MoE");
  EXPECT_EQ(names.name(2), "/d/Qwen_Qwen1.5-MoE.2");
  options.output = "/d/{date}.{model}.jsonl.log";
  EXPECT_EQ(OutputNames(options, labels).name(2), "/d/2026-12-31.Qwen_Qwen1.5-MoE.jsonl.2.log");
}

TEST(OutputNames, FindsItsNumbers) {
  const TestDirectory directory;
  CollectorOptions options;
  options.output_dir = directory.path() + "/{date}/{model}";
  const OutputNames names(options, kLabels);
  EXPECT_FALSE(prepare_output(options));
  EXPECT_TRUE(fs::is_empty(directory.path()));
  EXPECT_TRUE(names.taken()->empty());
  const std::string folder = directory.path() + "/2026-12-31/Qwen_Qwen1.5-MoE/";
  fs::create_directories(folder);
  EXPECT_EQ(names.name(1), folder + kLabels.trace_id + ".jsonl");
  for (const std::string number : {"", ".2", ".17"})
    std::ofstream(folder + kLabels.trace_id + number + ".jsonl") << "x";
  EXPECT_EQ(*names.taken(), (std::vector<std::uint64_t>{1, 2, 17}));
  // Another trace's files are not this one's.
  std::ofstream(folder + "other.jsonl") << "x";
  EXPECT_EQ(names.taken()->size(), 3);
  // A name from a template may be a stranger's link; the user's own name may be one.
  EXPECT_FALSE(names.chosen_by_user(1));
  options.output = directory.path() + "/t.jsonl";
  EXPECT_TRUE(OutputNames(options, kLabels.trace_id, 0).chosen_by_user(1));
}

}  // namespace
}  // namespace moetrace
