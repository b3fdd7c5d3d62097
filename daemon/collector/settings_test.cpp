// Where settings come from: precedence, origins, errors, --print-config and SIGHUP, for each entry
// of the table.
#include "daemon/collector/settings.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <set>

#include "daemon/collector/setting.hpp"
#include "shm/test_directory.hpp"

namespace moetrace {
namespace {

// Three values of each setting, none of them the default: as texts of a variable or flag.
const std::map<std::string, std::vector<std::string>> kValues = {
    {"session", {"a", "b", "c"}},
    {"directory", {"/a", "/b", "/c"}},
    {"output_dir", {"/a", "/b/{model}", "/c"}},
    {"output", {"/a", "/b/{rank}", "/c"}},
    {"publish", {"tcp://127.0.0.1:1", "none", "ipc:///c"}},
    {"plot_dir", {"/a", "/b", "/c"}},
    {"layers", {"0", "1-2", "0-3,7"}},
    {"rows", {"arrow", "arrow", "arrow"}},
    {"weights", {"float16", "none", "float16"}},
    {"compress", {"small", "lz4", "none"}},
    {"encoder_threads", {"1", "3", "16"}},
    {"max_file_size", {"64K", "10G", "1536G"}},
    {"max_age", {"30s", "2h", "7d"}},
    {"keep", {"1", "5", "1000"}},
    {"max_total_size", {"8M", "500G", "2T"}},
    {"once", {"true", "true", "true"}},
    {"quiet", {"true", "true", "true"}},
};

ConfigJson file_value(const Setting& setting, const std::string& text) {
  if (setting.is_switch()) return text == "true";
  if (setting.is_list()) return ConfigJson::array({text});
  if (setting.key == "keep" || setting.key == "encoder_threads") return ConfigJson::parse(text);
  return text;
}

class SettingsTest : public testing::Test {
 protected:
  SettingsTest() {
    clean();
    given.config = directory.path() + "/config.json";
    write("{}");
  }
  ~SettingsTest() override { clean(); }

  static void clean() {
    for (const Setting& setting : collector_settings()) ::unsetenv(setting.variable.c_str());
    for (const char* name : {"MOETRACE_CONFIG", "CONFIGURATION_DIRECTORY", "STATE_DIRECTORY"})
      ::unsetenv(name);
  }
  void write(const std::string& text) { std::ofstream(given.config) << text; }
  void write(const Setting& setting, const std::string& text) {
    write(ConfigJson{{setting.key, file_value(setting, text)}}.dump());
  }
  CollectorSettings read() {
    auto settings = read_settings(given);
    EXPECT_TRUE(settings) << settings.error().message;
    return settings ? std::move(*settings) : CollectorSettings{};
  }
  // The error line without the file's path.
  std::string error() {
    const auto settings = read_settings(given);
    if (settings) return "none";
    const std::string& line = settings.error().message;
    EXPECT_EQ(line.find('\n'), std::string::npos);
    return line.starts_with(given.config) ? "FILE" + line.substr(given.config.size()) : line;
  }
  std::string error(const std::string& text) {
    write(text);
    return error();
  }

  TestDirectory directory;
  CommandLine given;
};

void expect_setting(const CollectorSettings& settings, std::size_t n, const std::string& text,
                    Origin::Source source) {
  const Setting& setting = collector_settings()[n];
  EXPECT_EQ(setting.value(settings.options), file_value(setting, text)) << setting.key;
  EXPECT_EQ(settings.origins[n].source, source) << setting.key;
}

TEST_F(SettingsTest, EachEntryIsWhole) {
  std::set<std::string> names;
  for (const Setting& setting : collector_settings()) {
    EXPECT_TRUE(names.insert(setting.key).second);
    EXPECT_TRUE(names.insert(setting.variable).second);
    EXPECT_TRUE(setting.variable.starts_with("MOETRACE_")) << setting.variable;
    EXPECT_FALSE(setting.help.empty());
    EXPECT_TRUE(kValues.contains(setting.key)) << setting.key << ": give it values above";
  }
}

TEST_F(SettingsTest, FlagBeforeVariableBeforeFileBeforeDefault) {
  const auto& table = collector_settings();
  for (std::size_t n = 0; n < table.size(); ++n) {
    const Setting& setting = table[n];
    const auto& texts = kValues.at(setting.key);
    write("{}");
    const CollectorSettings plain = read();
    EXPECT_EQ(setting.value(plain.options), setting.value(default_options()));
    EXPECT_EQ(plain.origins[n].source, Origin::kDefault);
    write(setting, texts[0]);
    expect_setting(read(), n, texts[0], Origin::kFile);
    ::setenv(setting.variable.c_str(), "", 1);
    expect_setting(read(), n, texts[0], Origin::kFile);
    ::setenv(setting.variable.c_str(), texts[1].c_str(), 1);
    expect_setting(read(), n, texts[1], Origin::kVariable);
    given.flags = {{setting.key, {texts[2]}}};
    expect_setting(read(), n, texts[2], Origin::kFlag);
    if (setting.is_switch()) {
      given.flags = {{setting.key, {"false"}}};
      expect_setting(read(), n, "false", Origin::kFlag);
      EXPECT_EQ(read().origins[n].name, "--no-" + setting.key);
    }
    given.flags.clear();
    ::unsetenv(setting.variable.c_str());
  }
}

TEST_F(SettingsTest, PrintedSettingsAreAFileOfTheSameSettings) {
  for (const Setting& setting : collector_settings()) {
    given.flags = {{setting.key, {kValues.at(setting.key)[1]}}};
    const CollectorSettings before = read();
    const std::string text = print_settings(before);
    EXPECT_NE(text.find("  // flag " + setting.flag() + "\n"), std::string::npos) << text;
    given.flags.clear();
    write(text);
    const CollectorSettings after = read();
    for (const Setting& other : collector_settings())
      EXPECT_EQ(other.value(before.options), other.value(after.options)) << text;
    write("{}");
  }
}

TEST_F(SettingsTest, PrintedOriginsStayInTheirComments) {
  given.config = directory.path() + "/a\n\"b\", c.json";
  write(R"({"once": true, "plot_dir": "x,  // y\n"})");
  const CollectorSettings before = read();
  const std::string text = print_settings(before);
  given.config = directory.path() + "/config.json";
  write(text);
  EXPECT_EQ(read().options.plot_dir, "x,  // y\n") << text;
}

TEST_F(SettingsTest, OneOutputHolds) {
  write(R"({"output_dir": "/a"})");
  ::setenv("MOETRACE_OUTPUT", "/b.jsonl", 1);
  CollectorSettings settings = read();
  EXPECT_EQ(settings.options.output, "/b.jsonl");
  EXPECT_EQ(settings.options.output_dir, ".");
  EXPECT_NE(print_settings(settings).find("// \"output_dir\": \".\": without effect beside"),
            std::string::npos);
  given.flags = {{"output_dir", {"/c"}}};
  settings = read();
  EXPECT_EQ(settings.options.output, "");
  EXPECT_EQ(settings.options.output_dir, "/c");
  given.flags.clear();
  ::setenv("MOETRACE_OUTPUT_DIR", "/d", 1);
  EXPECT_EQ(error(),
            "MOETRACE_OUTPUT_DIR and MOETRACE_OUTPUT exclude each other; keep one of them");
  clean();
  EXPECT_EQ(error(R"({"output": "a", "output_dir": "b"})"),
            "FILE: \"output_dir\" and \"output\" exclude each other; keep one of them");
  EXPECT_EQ(error(R"({"output": "", "output_dir": "b"})"), "none");
}

TEST_F(SettingsTest, SaysWhatIsWrong) {
  EXPECT_EQ(error(R"({"outputdir": "/a"})"),
            "FILE: unknown key \"outputdir\"; did you mean \"output_dir\"?");
  EXPECT_TRUE(error(R"({"a\nb": 1})")
                  .starts_with("FILE: unknown key \"a\\nb\"; the keys are session, directory, "));
  EXPECT_EQ(error(R"({"once": 1})"), "FILE: invalid value 1 for \"once\": expected true or false");
  EXPECT_EQ(error(R"({"session": "a b"})"),
            "FILE: invalid value \"a b\" for \"session\": use 1 to 64 letters, digits, '-' and "
            "'_'");
  EXPECT_EQ(error(R"({"output": "{modle}"})"),
            "FILE: invalid value \"{modle}\" for \"output\": unknown placeholder {modle}; did you "
            "mean {model}?");
  EXPECT_EQ(error(R"({"max_total_size": "7M"})"),
            "FILE: invalid value \"7M\" for \"max_total_size\": use at least 8M: less than that is "
            "kept free for the rows of a ring and for the end of its trace");
  EXPECT_EQ(error(R"({"max_file_size": "63K"})"),
            "FILE: invalid value \"63K\" for \"max_file_size\": use at least 64K");
  EXPECT_EQ(error(R"({"keep": 0})"),
            "FILE: invalid value 0 for \"keep\": expected a number from 1 on, or all");
  EXPECT_LT(error("{\"once\": \"" + std::string(10'000, 'x') + "\"}").size(), 200);
  write("{}");
  ::setenv("MOETRACE_WRITE_LAYERS", "5-2", 1);
  EXPECT_EQ(error(),
            "invalid value \"5-2\" for MOETRACE_WRITE_LAYERS: expected layers from 0 to 255, such "
            "as \"0,5-7\", or \"all\"");
  given.flags = {{"session", {"a/b"}}};
  ::unsetenv("MOETRACE_WRITE_LAYERS");
  EXPECT_EQ(error(),
            "invalid value \"a/b\" for --session: use 1 to 64 letters, digits, '-' and '_'");
}

TEST_F(SettingsTest, AnEmptyTextOrListIsTheDefault) {
  write(R"({"session": "", "output_dir": "", "publish": [], "layers": "", "plot_dir": ""})");
  const CollectorSettings settings = read();
  for (const Setting& setting : collector_settings())
    EXPECT_EQ(setting.value(settings.options), setting.value(default_options()));
  EXPECT_EQ(error(R"({"once": ""})"),
            "FILE: invalid value \"\" for \"once\": expected true or false");
}

TEST_F(SettingsTest, FindsTheFile) {
  const std::string named = given.config;
  given.config.clear();
  EXPECT_EQ(read().file, "");
  ::setenv("CONFIGURATION_DIRECTORY", directory.path().c_str(), 1);
  EXPECT_EQ(read().file, "");
  std::ofstream(directory.path() + "/moetraced.json") << R"({"session": "service"})";
  EXPECT_EQ(read().options.session, "service");
  ::setenv("MOETRACE_CONFIG", named.c_str(), 1);
  EXPECT_EQ(read().options.session, "default");
  given.config = directory.path() + "/missing.json";
  EXPECT_EQ(error(),
            "FILE: can't read the configuration: No such file or directory; check --config or "
            "MOETRACE_CONFIG");
}

TEST_F(SettingsTest, SighupTakesWhatItCan) {
  const auto& table = collector_settings();
  for (std::size_t n = 0; n < table.size(); ++n) {
    const Setting& setting = table[n];
    write("{}");
    const CollectorSettings before = read();
    write(setting, kValues.at(setting.key)[1]);
    const auto after = reload_settings(before);
    ASSERT_TRUE(after) << after.error().message;
    const bool kept = setting.on_reload == OnReload::kKept;
    EXPECT_EQ(after->kept, kept);
    EXPECT_EQ(setting.value(after->settings.options) == setting.value(before.options), kept);
    EXPECT_EQ(after->settings.origins[n].source, kept ? Origin::kDefault : Origin::kFile);
    EXPECT_TRUE(after->line.starts_with("reloaded " + given.config + ": " + setting.key +
                                        (kept ? " stays " : " is now ")))
        << after->line;
    // What has not changed since is not said again; what waits for a restart is.
    EXPECT_EQ(reload_settings(after->settings)->line, kept ? after->line : "");
  }
}

TEST_F(SettingsTest, SighupSaysAllInOneLine) {
  write("{}");
  const CollectorSettings before = read();
  write(R"({"once": true, "layers": "0-3", "output": "x.jsonl"})");
  EXPECT_EQ(reload_settings(before)->line,
            "reloaded " + given.config +
                ": output is now \"x.jsonl\", not \"\", for new traces; layers is now \"0-3\", not "
                "\"all\"; once stays false until a restart, not true");
  write("{\"once\": ");
  const auto bad = reload_settings(before);
  ASSERT_FALSE(bad);
  EXPECT_TRUE(bad.error().message.starts_with(given.config + ": line 1, column "));
}

}  // namespace
}  // namespace moetrace
