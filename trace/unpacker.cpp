#include "trace/unpacker.hpp"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <limits>

namespace moetrace::trace {
namespace {

constexpr int kGzipOnly = 16 + MAX_WBITS;  // as inflateInit2 takes it
constexpr int kMostWindowLog = 27;         // what `zstd -d` takes without --long, too

class GzipUnpacker : public Unpacker {
 public:
  GzipUnpacker() : good_(::inflateInit2(&stream_, kGzipOnly) == Z_OK) {}
  GzipUnpacker(const GzipUnpacker&) = delete;
  GzipUnpacker& operator=(const GzipUnpacker&) = delete;
  ~GzipUnpacker() override { ::inflateEnd(&stream_); }

  [[nodiscard]] bool good() const { return good_; }
  [[nodiscard]] bool may_end() const override { return !inside_; }

  Progress unpack(std::string_view packed, char* room, size_t size) override {
    if (!inside_) {
      // Tapes and block devices fill a file up with zeros; gzip takes them for its end, too.
      const size_t zeros = std::min(packed.find_first_not_of('\0'), packed.size());
      if (zeros > 0) return {.taken = zeros};
      inside_ = !packed.empty();
    }
    constexpr size_t kMost = std::numeric_limits<uInt>::max();
    // zlib's pointer is not const, but it only reads there.
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
    stream_.avail_in = static_cast<uInt>(std::min(packed.size(), kMost));
    stream_.next_out = reinterpret_cast<Bytef*>(room);
    stream_.avail_out = static_cast<uInt>(std::min(size, kMost));
    const uInt in = stream_.avail_in;
    const uInt out = stream_.avail_out;
    const int result = ::inflate(&stream_, Z_NO_FLUSH);
    Progress progress{.taken = in - stream_.avail_in, .given = out - stream_.avail_out};
    if (result == Z_STREAM_END) {
      inside_ = false;
      ::inflateReset(&stream_);
    } else if (result == Z_MEM_ERROR) {
      progress.wrong = "out of memory";
    } else if (result != Z_OK && result != Z_BUF_ERROR) {  // Z_BUF_ERROR: nothing to do yet
      progress.wrong = stream_.msg != nullptr ? stream_.msg : "not gzip data";
    }
    return progress;
  }

 private:
  z_stream stream_{};
  bool good_;
  bool inside_ = true;  // a member
};

class ZstdUnpacker : public Unpacker {
 public:
  ZstdUnpacker() : stream_(::ZSTD_createDCtx()) {
    if (good()) ::ZSTD_DCtx_setParameter(stream_, ZSTD_d_windowLogMax, kMostWindowLog);
  }
  ZstdUnpacker(const ZstdUnpacker&) = delete;
  ZstdUnpacker& operator=(const ZstdUnpacker&) = delete;
  ~ZstdUnpacker() override { ::ZSTD_freeDCtx(stream_); }

  [[nodiscard]] bool good() const { return stream_ != nullptr; }
  [[nodiscard]] bool may_end() const override { return !inside_; }

  Progress unpack(std::string_view packed, char* room, size_t size) override {
    ZSTD_inBuffer in{packed.data(), packed.size(), 0};
    ZSTD_outBuffer out{room, size, 0};
    const size_t result = ::ZSTD_decompressStream(stream_, &out, &in);
    Progress progress{.taken = in.pos, .given = out.pos};
    if (::ZSTD_isError(result) != 0) {
      progress.wrong = ::ZSTD_getErrorName(result);
    } else if (in.pos > 0 || out.pos > 0) {  // else it only says what the next frame needs
      inside_ = result != 0;
    }
    return progress;
  }

 private:
  ZSTD_DCtx* stream_;
  bool inside_ = true;  // a frame
};

template <class Made>
std::unique_ptr<Unpacker> make() {
  auto made = std::make_unique<Made>();
  if (!made->good()) return nullptr;
  return made;
}

}  // namespace

std::unique_ptr<Unpacker> make_unpacker(Packing packing) {
  if (packing == Packing::kGzip) return make<GzipUnpacker>();
  if (packing == Packing::kZstd) return make<ZstdUnpacker>();
  return nullptr;
}

}  // namespace moetrace::trace
