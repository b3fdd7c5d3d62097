// Structs that carry their own size, from callers that were compiled against other versions.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "producer/test_capi.hpp"

namespace moetrace {
namespace {

// A struct of another version: the fields of this one, cut or followed by `size` - sizeof bytes.
class SizedOptions {
 public:
  SizedOptions(const moetrace_options& options, std::size_t size)
      : words_((size + sizeof(std::uint64_t) - 1) / sizeof(std::uint64_t)) {
    std::memcpy(words_.data(), &options, std::min(size, sizeof options));
    get()->size = size;
  }
  moetrace_options* get() { return reinterpret_cast<moetrace_options*>(words_.data()); }
  unsigned char* bytes() { return reinterpret_cast<unsigned char*>(words_.data()); }

 private:
  // Zeros; aligned as the struct.
  static_assert(alignof(moetrace_options) <= alignof(std::uint64_t));
  std::vector<std::uint64_t> words_;
};

class CApiOptions : public CApi {
 protected:
  // The error line; "" if the producer opens.
  static std::string refused(const moetrace_options* options) {
    char error[512] = "";
    moetrace_producer* const producer = moetrace_open(options, error, sizeof error);
    EXPECT_EQ(producer == nullptr, *error != '\0') << error;
    moetrace_close(producer);
    return error;
  }
};

TEST_F(CApiOptions, OlderCallersAreAccepted) {
  SizedOptions older(options(), offsetof(moetrace_options, cuda_device));
  EXPECT_EQ(refused(older.get()), "");
  // The oldest: it ends with the last required field.
  moetrace_options whole = options();
  whole.top_k = 2;
  SizedOptions oldest(whole, offsetof(moetrace_options, top_k) + sizeof whole.top_k);
  EXPECT_EQ(refused(oldest.get()), "");
}

TEST_F(CApiOptions, NewerCallersAreAcceptedWhileTheirNewFieldsAreUnset) {
  SizedOptions newer(options(), sizeof(moetrace_options) + 24);
  EXPECT_EQ(refused(newer.get()), "");
}

TEST_F(CApiOptions, AnUnknownFieldThatIsSetIsRefused) {
  const std::size_t known = sizeof(moetrace_options);
  for (const std::size_t at : {known, known + 7, known + 23}) {
    SizedOptions newer(options(), known + 24);
    newer.bytes()[at] = 1;
    EXPECT_EQ(refused(newer.get()),
              "moetrace_options: byte " + std::to_string(at) +
                  " is set, but this library knows only " + std::to_string(known) +
                  " bytes: the caller was built against a newer moetrace; update libmoetrace, or "
                  "leave the newer options unset");
  }
  EXPECT_TRUE(directory_.files().empty()) << "a refused open leaves no segment";
}

TEST_F(CApiOptions, BytesPastTheStructAreNotRead) {
  SizedOptions ours(options(), sizeof(moetrace_options) + 24);
  std::memset(ours.bytes() + sizeof(moetrace_options), 0xEE, 24);
  ours.get()->size = sizeof(moetrace_options);
  EXPECT_EQ(refused(ours.get()), "");
}

TEST_F(CApiOptions, AStructWithoutTheRequiredFieldsIsRefused) {
  moetrace_options options = this->options();
  options.size = 8;
  EXPECT_EQ(refused(&options),
            "invalid value '8' for moetrace_options.size: expected at least 44; call "
            "moetrace_options_init first");
  EXPECT_EQ(refused(nullptr),
            "moetrace_open: options is NULL; pass the struct that moetrace_options_init set up");
}

TEST_F(CApiOptions, InitFillsInTheCallersSize) {
  SizedOptions newer(options(), sizeof(moetrace_options) + 24);
  std::memset(newer.bytes(), 0xEE, sizeof(moetrace_options) + 24);
  moetrace_options_init(newer.get(), sizeof(moetrace_options) + 24);
  EXPECT_EQ(newer.get()->size, sizeof(moetrace_options) + 24);
  EXPECT_EQ(newer.get()->cuda_device, -1);
  for (std::size_t n = 0; n < 24; ++n) EXPECT_EQ(newer.bytes()[sizeof(moetrace_options) + n], 0);

  unsigned char memory[sizeof(moetrace_options)];
  std::memset(memory, 0xEE, sizeof memory);
  const std::size_t small = offsetof(moetrace_options, model_id);
  moetrace_options_init(reinterpret_cast<moetrace_options*>(memory), small);
  for (std::size_t n = small; n < sizeof memory; ++n) ASSERT_EQ(memory[n], 0xEE) << n;
  moetrace_options options;
  std::memcpy(&options, memory, small);
  EXPECT_EQ(options.sample_every, -1);
  EXPECT_EQ(options.size, small);
}

TEST_F(CApiOptions, TotalsOfAnotherSize) {
  moetrace_producer* producer = open();
  run_pass(producer);
  moetrace_totals older{};
  older.size = offsetof(moetrace_totals, announce_ns);
  older.announce_ns = 123;
  moetrace_get_totals(producer, &older);
  EXPECT_EQ(older.steps, 1u);
  EXPECT_EQ(older.announce_ns, 123u) << "a field past the caller's size stays untouched";

  struct {
    moetrace_totals known;
    std::uint64_t added[2];
  } newer;
  std::memset(&newer, 0xEE, sizeof newer);
  newer.known.size = sizeof newer;
  moetrace_get_totals(producer, &newer.known);
  EXPECT_EQ(newer.known.size, sizeof newer);
  EXPECT_EQ(newer.known.steps, 1u);
  EXPECT_EQ(newer.added[0], 0u) << "a field that the library does not know becomes 0";
  EXPECT_EQ(newer.added[1], 0u);
  moetrace_get_totals(producer, nullptr);
  moetrace_close(producer);
}

}  // namespace
}  // namespace moetrace
