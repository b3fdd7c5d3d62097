// libFuzzer: whatever is in the text, and in whatever pieces it comes, the C API gives the same
// rows and keeps its promises.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>
#include <type_traits>
#include <vector>

#include "trace/reader.h"

namespace {

void check(bool holds) {
  if (!holds) std::abort();
}

struct Close {
  void operator()(moetrace_reader* reader) { moetrace_reader_close(reader); }
};
using Reader = std::unique_ptr<moetrace_reader, Close>;
struct CloseBatches {
  void operator()(moetrace_reader_batches* batches) { moetrace_reader_close_batches(batches); }
};

struct Columns {
  std::vector<int64_t> request, step, token_idx, seq;
  std::vector<int16_t> layer;
  std::vector<int32_t> ids;
  std::vector<float> weights;

  // With room for as many rows.
  static Columns of(size_t rows, size_t k) {
    return {std::vector<int64_t>(rows),  std::vector<int64_t>(rows), std::vector<int64_t>(rows),
            std::vector<int64_t>(rows),  std::vector<int16_t>(rows), std::vector<int32_t>(rows * k),
            std::vector<float>(rows * k)};
  }
  moetrace_reader_rows room(size_t rows) {
    return {sizeof(moetrace_reader_rows),
            rows,
            0,
            request.data(),
            step.data(),
            token_idx.data(),
            seq.data(),
            layer.data(),
            ids.data(),
            weights.data()};
  }
  void append(const Columns& some, size_t rows, size_t k) {
    const auto add = [](auto& to, const auto& from, size_t count) {
      to.insert(to.end(), from.begin(), from.begin() + static_cast<std::ptrdiff_t>(count));
    };
    add(request, some.request, rows);
    add(step, some.step, rows);
    add(token_idx, some.token_idx, rows);
    add(seq, some.seq, rows);
    add(layer, some.layer, rows);
    add(ids, some.ids, rows * k);
    add(weights, some.weights, rows * k);
  }

  bool operator==(const Columns& other) const {
    const auto same = [](float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); };
    return request == other.request && step == other.step && token_idx == other.token_idx &&
           seq == other.seq && layer == other.layer && ids == other.ids &&
           std::ranges::equal(weights, other.weights, same);
  }
};

// All rows, the text given in pieces and the rows taken in portions.
Columns read_all(std::string_view text, size_t piece, size_t portion) {
  Columns all;
  const Reader reader(moetrace_reader_begin(0));
  const auto read = [&](moetrace_reader_place& place, moetrace_reader_rows* rows, size_t end) {
    const auto given = text.substr(place.byte, end - place.byte);
    const auto function = end == text.size() ? &moetrace_reader_read_last : &moetrace_reader_read;
    const int64_t taken =
        function(reader.get(), given.data(), given.size(), &place, rows, MOETRACE_READER_ALL);
    check((taken < 0) == (*moetrace_reader_error(reader.get()) != '\0'));
    check(moetrace_reader_counted(reader.get()).byte >= place.byte);
    return taken;
  };
  // Looks until the size of a row is known.
  moetrace_reader_info info{.size = sizeof info};
  moetrace_reader_place look{.byte = 0, .line = 1};
  for (size_t upto = 0; info.top_k == 0;) {
    if (upto == text.size()) return all;
    upto = std::min(text.size(), upto + piece);
    if (read(look, nullptr, upto) < 0) upto = text.size();
    moetrace_reader_get_info(reader.get(), &info);
  }
  const size_t k = info.top_k;
  moetrace_reader_place place{.byte = 0, .line = 1};
  size_t end = 0;
  Columns some = Columns::of(portion, k);
  for (;;) {
    moetrace_reader_rows rows = some.room(portion);
    const int64_t taken = read(place, &rows, end);
    check(rows.count <= portion);
    all.append(some, rows.count, k);
    if (taken < 0) break;
    if (taken == 0 && end == text.size()) break;
    if (rows.count < portion) end = std::min(text.size(), end + piece);
  }
  int64_t counted = 0;
  moetrace_reader_request request{.size = sizeof request};
  for (uint64_t i = 0; moetrace_reader_get_request(reader.get(), i, &request) == 1; ++i) {
    counted += request.rows;
  }
  check(counted ==
        static_cast<int64_t>(all.request.size()) - std::ranges::count(all.request, int64_t{-1}));
  for (const int32_t id : all.ids) check(id >= -1 && id < 65535);
  for (const int16_t layer : all.layer) check(layer >= 0 && layer < 256);
  return all;
}

// All lines other than rows, in pieces and portions likewise.
std::vector<moetrace_reader_line> read_lines(std::string_view text, size_t piece, size_t portion) {
  std::vector<moetrace_reader_line> all;
  const Reader reader(moetrace_reader_begin(0));
  moetrace_reader_place place{.byte = 0, .line = 1};
  std::vector<moetrace_reader_line> some(portion);
  for (size_t end = 0;;) {
    const auto given = text.substr(place.byte, end - place.byte);
    moetrace_reader_lines lines{sizeof lines, sizeof(moetrace_reader_line), portion, 0, some.data(),
                                ~0U};
    const int64_t taken = moetrace_reader_read_lines(reader.get(), given.data(), given.size(),
                                                     &place, &lines, end == text.size() ? 1 : 0);
    check((taken < 0) == (*moetrace_reader_error(reader.get()) != '\0'));
    check(lines.count <= portion);
    for (size_t n = 0; n < lines.count; ++n) {
      check(std::has_single_bit(some[n].kind) && some[n].place.byte < text.size());
      all.push_back(some[n]);
    }
    if (taken < 0) break;
    if (taken == 0 && end == text.size()) break;
    if (lines.count < portion) end = std::min(text.size(), end + piece);
  }
  return all;
}

// All rows of a rows file after the lines in `text`, in portions.
Columns read_batches(std::string_view text, std::string_view file, size_t portion) {
  Columns all;
  const Reader reader(moetrace_reader_begin(0));
  moetrace_reader_place place{.byte = 0, .line = 1};
  moetrace_reader_read(reader.get(), text.data(), text.size(), &place, nullptr,
                       MOETRACE_READER_ALL);
  const int fd = ::memfd_create("rows", MFD_CLOEXEC);
  check(fd >= 0 && ::write(fd, file.data(), file.size()) == static_cast<ssize_t>(file.size()));
  char why[512] = "";
  const std::unique_ptr<moetrace_reader_batches, CloseBatches> batches(
      moetrace_reader_open_batches(reader.get(), "rows", fd, 0, why, sizeof why));
  ::close(fd);
  check((batches == nullptr) == (*why != '\0'));
  if (batches == nullptr) return all;
  moetrace_reader_info info{.size = sizeof info};
  moetrace_reader_get_info(reader.get(), &info);
  const size_t k = info.top_k;
  Columns some = Columns::of(portion, k);
  for (;;) {
    moetrace_reader_rows rows = some.room(portion);
    const int64_t passed =
        moetrace_reader_read_batches(reader.get(), batches.get(), &rows, MOETRACE_READER_ALL);
    check((passed < 0) == (*moetrace_reader_error(reader.get()) != '\0'));
    check(rows.count <= portion);
    all.append(some, rows.count, k);
    if (passed <= 0) break;
  }
  for (const int32_t id : all.ids) check(id >= -1 && id < 65535);
  for (const int16_t layer : all.layer) check(layer >= 0 && layer < 256);
  return all;
}

// A message of topic `rows` after the lines in `text`.
void read_message(std::string_view text, std::string_view message) {
  constexpr size_t kRoom = 1000;
  const Reader reader(moetrace_reader_begin(0));
  moetrace_reader_place place{.byte = 0, .line = 1};
  moetrace_reader_read(reader.get(), text.data(), text.size(), &place, nullptr,
                       MOETRACE_READER_ALL);
  moetrace_reader_info info{.size = sizeof info};
  moetrace_reader_get_info(reader.get(), &info);
  Columns some = Columns::of(kRoom, info.top_k);
  moetrace_reader_rows rows = some.room(kRoom);
  const int64_t taken =
      moetrace_reader_read_message(reader.get(), message.data(), message.size(), 1, &rows);
  check((taken < 0) == (*moetrace_reader_error(reader.get()) != '\0'));
  check(rows.count == static_cast<size_t>(std::max<int64_t>(taken, 0)));
  for (size_t row = 0; row < rows.count; ++row) {
    check(some.seq[row] >= 1 && some.layer[row] >= 0 && some.layer[row] < 256);
  }
}

bool same_lines(const std::vector<moetrace_reader_line>& a,
                const std::vector<moetrace_reader_line>& b) {
  static_assert(std::has_unique_object_representations_v<moetrace_reader_line>);
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof a[0]) == 0;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  // Lines, and after them the bytes of a rows file, which begins with four of value 255.
  if (const size_t rows = text.find("\n\xFF\xFF\xFF\xFF"); rows != std::string_view::npos) {
    const auto lines = text.substr(0, rows + 1), file = text.substr(rows + 1);
    check(read_batches(lines, file, 1000) == read_batches(lines, file, 2));
    check(read_batches({}, file, 1000) == read_batches({}, file, 3));
    read_message(lines, file);
  }
  check(read_all(text, size + 1, 1000) == read_all(text, 7, 2));
  check(same_lines(read_lines(text, size + 1, 1000), read_lines(text, 7, 2)));
  return 0;
}
