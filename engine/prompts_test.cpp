// Prompt files as editors on several systems save them.
#include "engine/prompts.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/files.hpp"
#include "engine/test_folder.hpp"

namespace moetrace::engine {
namespace {

using Prompts = std::vector<std::string>;

class PromptsTest : public testing::Test {
 protected:
  std::filesystem::path write(const std::string& content) {
    const auto path = folder_.path() / "p.txt";
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  // The prompts, or the error's message in their place.
  Prompts read(const std::string& content) {
    const auto prompts = read_prompts(write(content));
    return prompts ? *prompts : Prompts{prompts.error().message};
  }
  std::string failure(const std::string& content) {
    const auto prompts = read_prompts(write(content));
    return prompts ? "it was read" : prompts.error().message;
  }
  TestFolder folder_;
};

const Prompts kTwo = {"Hello world.", "A second one."};

TEST_F(PromptsTest, LineEndsOfAnySystem) {
  EXPECT_EQ(read("Hello world.\n\n---\n\nA second one."), kTwo);
  EXPECT_EQ(read("Hello world.\r\n\r\n---\r\n\r\nA second one.\r\n"), kTwo);
  EXPECT_EQ(read("Hello world.\r\r---\r\rA second one.\r"), kTwo);
  EXPECT_EQ(read("two\r\nlines"), Prompts{"two\nlines"});
  // Line ends that only some lines have belong to the text, except in a separator.
  EXPECT_EQ(read("a\r\nb\n\n---\n\nc\rd\n"), (Prompts{"a\r\nb", "c\rd"}));
  EXPECT_EQ(read("a\nb\r\n\r\n---\r\n\r\nc"), (Prompts{"a\nb", "c"}));
}

TEST_F(PromptsTest, ByteOrderMarks) {
  EXPECT_EQ(read("\xEF\xBB\xBFHello world.\n\n---\n\nA second one."), kTwo);
  EXPECT_EQ(read("a\xEF\xBB\xBF"), Prompts{"a\xEF\xBB\xBF"});  // not at the start of the file: text
  for (const std::string& text : {std::string("\xFF\xFE"
                                              "a\0",
                                              4),
                                  std::string("\xFE\xFF\0a", 4), std::string("a\0b\0", 4)}) {
    EXPECT_TRUE(failure(text).ends_with("p.txt: UTF-16 or binary data; save the file as UTF-8"))
        << failure(text);
  }
}

TEST_F(PromptsTest, BlanksAroundASeparator) {
  EXPECT_EQ(read("Hello world.\n  \n--- \t\n\t\nA second one."), kTwo);
  // A separator is a line of its own between two blank lines.
  for (const std::string text : {"a\n---\nb", "a\n\n---b\n\nc", "a\n\n---\nb", "a\n---\n\nb"}) {
    EXPECT_EQ(read(text), Prompts{text});
  }
  EXPECT_EQ(read("a  \n\n---\n\n b"), (Prompts{"a  ", " b"}));
  EXPECT_EQ(read("a\n\n\n---\n\n\nb"), (Prompts{"a\n", "\nb"}));
}

TEST_F(PromptsTest, TheLastNewlineIsTheFiles) {
  EXPECT_EQ(read("Hello world.\n\n---\n\nA second one.\n"), kTwo);
  EXPECT_EQ(read("a\n\n"), Prompts{"a\n"});
}

TEST_F(PromptsTest, EmptyPromptsAreSaid) {
  for (const std::string text : {"a\n\n---\n\n", "a\n\n---\n", "a\n\n---", "a\r\n\r\n---\r\n"}) {
    EXPECT_NE(failure(text).find("prompt 1 is empty; remove a separator beside it"),
              std::string::npos)
        << failure(text);
  }
  EXPECT_NE(failure("a\n\n---\n\n\n\n---\n\nb").find("prompt 1 is empty"), std::string::npos);
  EXPECT_NE(failure("\xEF\xBB\xBF\r\n").find("the prompt file is empty"), std::string::npos);
}

TEST_F(PromptsTest, WhatIsJoinedIsReadAgain) {
  for (const Prompts& prompts :
       {kTwo, Prompts{"one\n", "two\n\n"}, Prompts{"a\r\nb", "c\rd\r"}, Prompts{"---", "---\n"}}) {
    EXPECT_EQ(read(join_prompts(prompts)), prompts);
  }
}

TEST_F(PromptsTest, Gsm8kFromWindows) {
  const auto path = write("\xEF\xBB\xBF{\"question\": \"a?\"}\r\n{\"question\": \"b?\"}\r\n");
  EXPECT_EQ(read_gsm8k(path, 2).value(), (Prompts{"a?", "b?"}));
  EXPECT_NE(read_gsm8k(write(R"({"question": "a\n\n--- \n\nb"})"), 1)
                .error()
                .message.find("contains the separator"),
            std::string::npos);
}

TEST_F(PromptsTest, JsonFilesFromWindows) {
  EXPECT_EQ(read_json(write("\xEF\xBB\xBF{\"a\":\r\n1}")).value().at("a"), 1);
  EXPECT_NE(read_json(write(std::string("\xFF\xFE{\0}\0", 6))).error().message.find("UTF-16"),
            std::string::npos);
}

}  // namespace
}  // namespace moetrace::engine
