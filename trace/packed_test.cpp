// Compressed traces: what is in them comes out as from the file that was compressed.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <string>
#include <thread>
#include <vector>

#include "trace/reader.h"
#include "trace/test_files.hpp"
#include "trace/trace_reader.hpp"

namespace moetrace::trace {
namespace {

const std::string kPackedMeta = R"({"type": "meta", "top_k": 2, "num_experts": 8})"
                                "\n";

std::string rows(int count) {
  std::string text;
  for (int n = 0; n < count; ++n) {
    text += R"({"type": "route", "req_id": "r)" + std::to_string(n * n) +
            R"(", "layer": 1, "topk_ids": [3, 1]})" + "\n";
  }
  return text;
}

std::string gzip(const std::string& text) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string packed(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

std::string zstd(const std::string& text) {
  std::string packed(ZSTD_compressBound(text.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), text.data(), text.size(), 3));
  return packed;
}

class PackedTest : public testing::TestWithParam<std::string (*)(const std::string&)> {
 protected:
  // "N rows", then what was left out, or what is wrong; without the file's name.
  std::string read(const std::string& bytes) { return read_file(folder_.write("t.jsonl", bytes)); }
  std::string read_file(const std::string& path) {
    const auto said = [&](const std::string& message) { return message.substr(path.size() + 2); };
    auto reader = TraceReader::open(path);
    if (!reader) return said(reader.error().message) + "; " + what_to_try(reader.error());
    for (int count = 0;; ++count) {
      const auto line = reader->next();
      const std::string so_far = std::to_string(count) + " rows";
      if (!line)
        return so_far + ", " + said(line.error().message) + "; " + what_to_try(line.error());
      if (*line != nullptr) continue;
      return so_far + (reader->left_out().empty() ? "" : ", " + said(reader->left_out()));
    }
  }
  static std::string pack(const std::string& text) { return GetParam()(text); }

  TestFolder folder_;
};

INSTANTIATE_TEST_SUITE_P(Gzip, PackedTest, testing::Values(&gzip));
INSTANTIATE_TEST_SUITE_P(Zstd, PackedTest, testing::Values(&zstd));

TEST_P(PackedTest, IsReadWhateverItsName) {
  EXPECT_EQ(read(pack(kPackedMeta + rows(20000))), "20000 rows");
  EXPECT_EQ(
      read(pack("")),
      "not a trace: it is empty; wait until its collector has written to it, or give another file");
  EXPECT_EQ(read(pack("nonsense\n")).substr(0, 52),
            "not a trace: its first line is not a JSON object; gi");
  EXPECT_EQ(read(pack(kPackedMeta) + pack(rows(2)) + pack("") + pack(rows(3))),
            "5 rows");  // cat a.gz b.gz
  EXPECT_EQ(read(pack(pack(kPackedMeta))),
            "not a trace: it is compressed twice; unpack it once: gzip -dk FILE, or zstd -dk FILE");
  EXPECT_NE(read(pack(kPackedMeta + "nonsense\n")).find("FILE | sed -n 2p"), std::string::npos);
}

TEST_P(PackedTest, CutAnywhere) {
  const std::string text = kPackedMeta + rows(300);
  const std::string packed = pack(text);
  for (size_t size = 0; size < packed.size(); ++size) {
    const std::string said = read(packed.substr(0, size));
    if (size < kPackedMeta.size() / 2) continue;  // perhaps nothing of the text
    EXPECT_TRUE(said.find("the compressed data end early") != std::string::npos ||
                said.starts_with("not a trace") || said.starts_with("line 1: unfinished"))
        << size << ": " << said;
  }
}

TEST_P(PackedTest, DamagedAnywhere) {
  const std::string packed = pack(kPackedMeta + rows(300));
  for (size_t at = 0; at < packed.size(); ++at) {
    std::string bytes = packed;
    bytes[at] = static_cast<char>(bytes[at] ^ 0x55);
    EXPECT_FALSE(read(bytes).empty());  // no crash, no hang, no matter what it is
  }
  EXPECT_NE(read(packed + "garbage").find("the compressed data are damaged"), std::string::npos);
  EXPECT_EQ(read(packed + (packed.starts_with("\x1F") ? std::string(700, '\0') : "")), "300 rows");
}

// A line of 256 MB in 256 kB.
TEST_P(PackedTest, BombsTakeBoundedMemory) {
  const std::string megabytes = pack(std::string(16 << 20, ' '));
  std::string bomb = pack(kPackedMeta);
  for (int n = 0; n < 16; ++n) bomb += megabytes;
  struct rusage before {};
  ::getrusage(RUSAGE_SELF, &before);
  EXPECT_NE(read(bomb).find("longer than 16 MiB"), std::string::npos);
  struct rusage after {};
  ::getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 64 << 10) << "KiB";
}

TEST_P(PackedTest, OfAPipe) {
  const std::string packed = pack(kPackedMeta + rows(3000));
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  std::thread writer([&] {
    for (size_t at = 0; at < packed.size(); at += 1000) {
      const size_t size = std::min<size_t>(1000, packed.size() - at);
      EXPECT_EQ(::write(ends[1], packed.data() + at, size), static_cast<ssize_t>(size));
    }
    ::close(ends[1]);
  });
  EXPECT_EQ(read_file("/proc/self/fd/" + std::to_string(ends[0])), "3000 rows");
  writer.join();
  ::close(ends[0]);
}

TEST_P(PackedTest, ThroughTheCApi) {
  const std::string text = kPackedMeta + rows(5000);
  const std::string packed = pack(text);
  const int fd = ::open(folder_.write("t", packed).c_str(), O_RDONLY | O_CLOEXEC);
  EXPECT_EQ(moetrace_reader_is_packed(packed.data(), 4), 1);
  EXPECT_EQ(moetrace_reader_is_packed(text.data(), 4), 0);
  char why[100];
  moetrace_reader_unpacked* const unpacked = moetrace_reader_unpack(fd, why, sizeof why);
  ASSERT_NE(unpacked, nullptr);
  ::close(fd);
  std::string got;
  std::string room(1000, '\0');
  int cut = 1;
  for (int64_t some = 1; some > 0; got.append(room.data(), static_cast<size_t>(some))) {
    some = moetrace_reader_unpack_read(unpacked, room.data(), room.size(), &cut);
    ASSERT_GE(some, 0);
  }
  EXPECT_EQ(cut, 0);
  EXPECT_TRUE(got == text);
  moetrace_reader_unpack_close(unpacked);
}

TEST_P(PackedTest, OtherCompressionsAreNamed) {
  const auto bytes = [](auto& text) { return std::string(text, sizeof text - 1); };
  for (const auto& [begin, name, remedy] : std::vector<std::array<std::string, 3>>{
           {bytes("\xFD\x37zXZ\0\0\4\n"), "compressed with xz", "xz -dk FILE"},
           {"BZh91AY&SY\n", "compressed with bzip2", "bzip2 -dk FILE"},
           {bytes("PK\3\4\24\0\n"), "a zip archive", "unzip FILE"},
           {bytes("\4\x22\x4D\x18\x64@\n"), "compressed with lz4", "lz4 -dk FILE"}}) {
    EXPECT_EQ(read(begin),
              "not a trace: it is " + name +
                  ", and gzip and zstd are what is read here; unpack it first: " + remedy);
  }
}

}  // namespace
}  // namespace moetrace::trace
