#include "trace/arrow_body.hpp"

#include <lz4frame.h>
#include <zstd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

namespace moetrace::trace {
namespace {

// A count of positions must fit, too.
constexpr std::uint64_t kMostInColumn = std::numeric_limits<std::int64_t>::max() - 1;

using Bytes = std::span<const std::uint8_t>;

Error bad_body(std::string why) {
  return {ErrorCode::kBadRows, std::move(why)};
}

// The array at `bytes`; its place is aligned to 8.
template <class T>
const T* as(Bytes bytes) {
  return reinterpret_cast<const T*>(bytes.data());
}

// Calls take(i) for each null of `count` items.
template <class Take>
void for_nulls(Bytes valid, std::size_t count, Take take) {
  for (std::size_t i = 0; i < count; ++i) {
    if (i % 8 == 0 && valid[i / 8] == 0xFF) {
      i += 7;
      continue;
    }
    if ((valid[i / 8] >> (i % 8) & 1) == 0) take(i);
  }
}

template <class From>
bool widen(Bytes from, std::span<std::int64_t> to) {
  const From* const values = as<From>(from);
  bool fits = true;
  for (std::size_t i = 0; i < to.size(); ++i) {
    to[i] = static_cast<std::int64_t>(values[i]);
    if constexpr (sizeof(From) == 8) fits &= static_cast<std::uint64_t>(values[i]) <= kMostInColumn;
  }
  return fits;
}

std::uint16_t highest_of(std::span<const std::uint16_t> values) {
  std::uint16_t highest = 0;
  for (const std::uint16_t value : values) highest = value > highest ? value : highest;
  return highest;
}

bool all_finite(std::span<const float> values) {
  constexpr std::uint32_t kExponent = 0x7F800000;
  std::uint32_t some = 0;
  for (const float value : values) {
    some |= (std::bit_cast<std::uint32_t>(value) & kExponent) == kExponent ? 1U : 0U;
  }
  return some == 0;
}

float of_half(std::uint16_t half) {
  constexpr std::uint16_t kExponent = 0x7C00;
  if ((half & kExponent) == kExponent) return std::numeric_limits<float>::quiet_NaN();
  // A half's bits in the place of a float's are too small by 2^112, subnormal ones too.
  const float size = std::bit_cast<float>(static_cast<std::uint32_t>(half & 0x7FFF) << 13);
  const float scaled = size * 0x1p112F;
  return (half & 0x8000) != 0 ? -scaled : scaled;
}

float finite(float value) {
  return std::isfinite(value) ? value : std::numeric_limits<float>::quiet_NaN();
}

}  // namespace

struct RowsBody::Impl {
  struct FreeZstd {
    void operator()(ZSTD_DCtx* context) { ZSTD_freeDCtx(context); }
  };
  struct FreeLz4 {
    void operator()(LZ4F_dctx* context) { LZ4F_freeDecompressionContext(context); }
  };

  Result<Bytes> stored(const arrow::Buffer& buffer, std::uint64_t need);
  Result<Bytes> unpack(Bytes packed, std::uint64_t size, std::uint64_t need);
  const char* unzstd(Bytes packed, std::span<std::uint8_t> to);
  const char* unlz4(Bytes packed, std::span<std::uint8_t> to);

  Result<void> read_numbers(RowsColumn column, const char* name, bool wide,
                            std::vector<std::int64_t>& to);
  Result<void> read_layers(std::uint32_t num_layers);
  Result<void> read_ids(const RowsSchema& schema, std::uint32_t num_experts);
  Result<void> read_weights(const RowsSchema& schema);
  Result<void> read_seq();
  Result<void> check_layers(const RowsSchema& schema, const std::vector<LayerLimits>& limits);
  template <class Take>
  Result<std::size_t> take_nulls(RowsColumn column, std::size_t count, Take take);

  Bytes body;
  const RowsBatchHead* head = nullptr;
  std::vector<std::uint8_t> unpacked;  // the last column that was compressed
  std::unique_ptr<ZSTD_DCtx, FreeZstd> zstd;
  std::unique_ptr<LZ4F_dctx, FreeLz4> lz4;

  std::vector<std::int64_t> request, token_idx, step, seq;
  std::vector<std::uint16_t> layer, ids;
  std::vector<float> weights;
  std::span<const float> weights_seen;
};

// The bytes of a buffer, unpacked: at least `need`.
Result<Bytes> RowsBody::Impl::stored(const arrow::Buffer& buffer, std::uint64_t need) {
  Bytes bytes = body.subspan(static_cast<std::size_t>(buffer.offset),
                             static_cast<std::size_t>(buffer.length));
  if (head->body != StoredBody::kPlain && !bytes.empty()) {
    if (bytes.size() < arrow::kLengthBytes) return bad_body("a column is shorter than its length");
    std::int64_t length = 0;
    std::memcpy(&length, bytes.data(), sizeof length);
    bytes = bytes.subspan(arrow::kLengthBytes);
    if (length != arrow::kStoredRaw) {
      return unpack(bytes, static_cast<std::uint64_t>(length), need);
    }
  }
  if (bytes.size() < need) {
    return bad_body("a column has " + std::to_string(bytes.size()) + " bytes, expected " +
                    std::to_string(need));
  }
  return bytes;
}

Result<Bytes> RowsBody::Impl::unpack(Bytes packed, std::uint64_t size, std::uint64_t need) {
  // Some writers count the padding.
  constexpr std::uint64_t kMostPadding = 64;
  if (size < need || size - need > kMostPadding) {
    return bad_body("a compressed column says that it has " +
                    std::to_string(static_cast<std::int64_t>(size)) + " bytes, expected " +
                    std::to_string(need));
  }
  if (unpacked.size() < size) unpacked.resize(size);
  const std::span<std::uint8_t> to(unpacked.data(), size);
  const char* const wrong =
      head->body == StoredBody::kZstd ? unzstd(packed, to) : unlz4(packed, to);
  if (wrong != nullptr) return bad_body(std::string("a compressed column is damaged: ") + wrong);
  return Bytes(to);
}

const char* RowsBody::Impl::unzstd(Bytes packed, std::span<std::uint8_t> to) {
  if (zstd == nullptr) zstd.reset(ZSTD_createDCtx());
  if (zstd == nullptr) return "out of memory";
  const std::size_t got =
      ZSTD_decompressDCtx(zstd.get(), to.data(), to.size(), packed.data(), packed.size());
  if (ZSTD_isError(got) != 0) return ZSTD_getErrorName(got);
  return got == to.size() ? nullptr : "it is shorter than it says";
}

const char* RowsBody::Impl::unlz4(Bytes packed, std::span<std::uint8_t> to) {
  if (lz4 == nullptr) {
    LZ4F_dctx* context = nullptr;
    if (LZ4F_isError(LZ4F_createDecompressionContext(&context, LZ4F_VERSION)) != 0) {
      return "out of memory";
    }
    lz4.reset(context);
  }
  LZ4F_resetDecompressionContext(lz4.get());
  std::size_t taken = 0, given = 0;
  for (;;) {
    std::size_t from_size = packed.size() - taken, to_size = to.size() - given;
    const std::size_t left = LZ4F_decompress(lz4.get(), to.data() + given, &to_size,
                                             packed.data() + taken, &from_size, nullptr);
    if (LZ4F_isError(left) != 0) return LZ4F_getErrorName(left);
    taken += from_size;
    given += to_size;
    if (left == 0) break;
    if (from_size == 0 && to_size == 0) return "it is longer or shorter than it says";
  }
  return given == to.size() && taken == packed.size() ? nullptr
                                                      : "it is longer or shorter than it says";
}

// Returns how many there are.
template <class Take>
Result<std::size_t> RowsBody::Impl::take_nulls(RowsColumn column, std::size_t count, Take take) {
  const RowsBuffers& buffers = head->of(column);
  if (buffers.null_count == 0) return std::size_t{0};
  const auto valid = stored(buffers.valid, (count + 7) / 8);
  if (!valid) return valid.error();
  std::size_t nulls = 0;
  for_nulls(*valid, count, [&](std::size_t i) {
    take(i);
    ++nulls;
  });
  return nulls;
}

Result<void> RowsBody::Impl::read_numbers(RowsColumn column, const char* name, bool wide,
                                          std::vector<std::int64_t>& to) {
  to.resize(head->rows);
  const auto values = stored(head->of(column).values, to.size() * (wide ? 8 : 4));
  if (!values) return values.error();
  bool fits = true;
  if (wide) {
    fits = widen<std::uint64_t>(*values, to);
  } else if (column == RowsColumn::kTokenIdx) {
    widen<std::int32_t>(*values, to);
  } else {
    widen<std::uint32_t>(*values, to);
  }
  // A null's value is anything.
  const auto nulls = take_nulls(column, to.size(), [&](std::size_t i) { to[i] = 0; });
  if (!nulls) return nulls.error();
  if (column == RowsColumn::kTokenIdx || !fits) {
    std::int64_t all = 0;
    for (const std::int64_t value : to) all |= value;
    if (all < 0 ||
        (!fits && std::ranges::find(to, std::numeric_limits<std::int64_t>::max()) != to.end())) {
      return bad_body(std::string("a \"") + name + "\" is negative, or 2^63 - 1 or larger");
    }
  }
  if (*nulls > 0) {
    if (const auto again = take_nulls(column, to.size(), [&](std::size_t i) { to[i] = -1; });
        !again)
      return again.error();
  }
  return {};
}

Result<void> RowsBody::Impl::read_layers(std::uint32_t num_layers) {
  layer.resize(head->rows);
  const auto values = stored(head->of(RowsColumn::kLayer).values, layer.size() * sizeof layer[0]);
  if (!values) return values.error();
  if (!layer.empty()) std::memcpy(layer.data(), values->data(), layer.size() * sizeof layer[0]);
  const std::uint16_t highest = highest_of(layer);
  if (highest >= num_layers) {
    return bad_body("a row is of layer " + std::to_string(highest) +
                    ", expected a layer from 0 to " + std::to_string(num_layers - 1));
  }
  return {};
}

Result<void> RowsBody::Impl::read_ids(const RowsSchema& schema, std::uint32_t num_experts) {
  ids.resize(std::size_t{head->rows} * schema.top_k);
  const auto values =
      stored(head->of(RowsColumn::kIdItems).values, ids.size() * (schema.two_byte_ids ? 2 : 1));
  if (!values) return values.error();
  if (schema.two_byte_ids) {
    if (!ids.empty()) std::memcpy(ids.data(), values->data(), ids.size() * sizeof ids[0]);
  } else {
    const std::uint8_t* const from = values->data();
    std::uint16_t* const to = ids.data();
    for (std::size_t i = 0, count = ids.size(); i < count; ++i) to[i] = from[i];
  }
  const auto nulls =
      take_nulls(RowsColumn::kIdItems, ids.size(), [&](std::size_t i) { ids[i] = kNoExpert; });
  if (!nulls) return nulls.error();
  if (*nulls == 0 && highest_of(ids) < num_experts) return {};
  std::size_t beyond = 0;
  for (const std::uint16_t id : ids) beyond += id >= num_experts ? 1 : 0;
  if (beyond == *nulls) return {};
  for (const std::uint16_t id : ids) {
    if (id >= num_experts && id != kNoExpert) {
      return bad_body("a row has expert " + std::to_string(id) + ", expected an expert from 0 to " +
                      std::to_string(num_experts - 1));
    }
  }
  return bad_body("a row has expert 65535, which no model has");
}

Result<void> RowsBody::Impl::read_weights(const RowsSchema& schema) {
  constexpr float kNone = std::numeric_limits<float>::quiet_NaN();
  const std::size_t count = std::size_t{head->rows} * schema.top_k;
  weights.resize(std::max(weights.size(), count));  // those of the largest batch stay
  weights_seen = {weights.data(), count};
  if (schema.weights == StoredWeights::kNone) {
    std::fill(weights.begin(), weights.end(), kNone);
    return {};
  }
  const bool half = schema.weights == StoredWeights::kFloat16;
  const auto values = stored(head->of(RowsColumn::kWeightItems).values, count * (half ? 2 : 4));
  if (!values) return values.error();
  float* const to = weights.data();
  if (half) {
    const auto* const from = as<std::uint16_t>(*values);
    for (std::size_t i = 0; i < count; ++i) to[i] = of_half(from[i]);
  } else {
    const std::span<const float> from(as<float>(*values), count);
    const bool unpacked_here = values->data() == unpacked.data();
    if (!unpacked_here && head->of(RowsColumn::kWeightItems).null_count == 0 && all_finite(from)) {
      weights_seen = from;  // as they lie in the body
      return {};
    }
    for (std::size_t i = 0; i < count; ++i) to[i] = finite(from[i]);
  }
  const auto nulls =
      take_nulls(RowsColumn::kWeightItems, count, [&](std::size_t i) { to[i] = kNone; });
  if (!nulls) return nulls.error();
  return {};
}

Result<void> RowsBody::Impl::read_seq() {
  seq.resize(head->rows);
  const auto values = stored(head->of(RowsColumn::kSkipped).values, seq.size() * 4);
  if (!values) return values.error();
  const auto* const skipped = as<std::uint32_t>(*values);
  std::uint64_t next = head->first_seq;  // at most 2^60, and less than 2^53 is added
  for (std::size_t i = 0; i < seq.size(); ++i) {
    next += skipped[i];
    seq[i] = static_cast<std::int64_t>(next++);
  }
  if (next > head->next_seq) {
    return bad_body("its rows end at seq " + std::to_string(next - 1) + ", beyond its next_seq " +
                    std::to_string(head->next_seq));
  }
  return {};
}

// Layers of fewer experts or a smaller top_k; what a row has beyond that is null.
Result<void> RowsBody::Impl::check_layers(const RowsSchema& schema,
                                          const std::vector<LayerLimits>& limits) {
  const std::size_t k = schema.top_k;
  for (std::size_t row = 0; row < layer.size(); ++row) {
    const LayerLimits& of = limits[layer[row]];
    for (std::size_t n = 0; n < k; ++n) {
      const std::uint16_t id = ids[row * k + n];
      if (id != kNoExpert && (id >= of.ids || n >= of.top_k)) {
        return bad_body("a row of layer " + std::to_string(layer[row]) + " has expert " +
                        std::to_string(id) + " at place " + std::to_string(n + 1) +
                        "; the layer has a top-" + std::to_string(of.top_k) + " of " +
                        std::to_string(of.ids));
      }
    }
  }
  return {};
}

RowsLimits rows_limits(const Meta& meta, std::optional<std::uint32_t> num_experts) {
  RowsLimits limits{.num_experts = num_experts.value_or(kMaxExperts),
                    .num_layers = meta.num_layers.value_or(kMaxLayers)};
  if (!meta.layers) return limits;
  limits.layers.assign(kMaxLayers, {.top_k = meta.top_k, .ids = limits.num_experts});
  for (const LayerMeta& layer : *meta.layers) {
    limits.layers[layer.layer] = {.top_k = meta.top_k_of(layer.layer),
                                  .ids = meta.ids_of(layer.layer).value_or(limits.num_experts)};
  }
  return limits;
}

RowsBody::RowsBody() : impl_(std::make_unique<Impl>()) {}
RowsBody::RowsBody(RowsBody&&) noexcept = default;
RowsBody& RowsBody::operator=(RowsBody&&) noexcept = default;
RowsBody::~RowsBody() = default;

Result<RowRun> RowsBody::read(Bytes body, const RowsBatchHead& head, const RowsSchema& schema,
                              const RowsLimits& limits) {
  Impl& impl = *impl_;
  impl.body = body;
  impl.head = &head;
  const auto wide = schema.wide;
  using Column = RowsColumn;
  if (const auto r = impl.read_numbers(Column::kRequest, "request", wide, impl.request); !r)
    return r.error();
  if (const auto r = impl.read_numbers(Column::kTokenIdx, "token_idx", wide, impl.token_idx); !r)
    return r.error();
  if (const auto r = impl.read_numbers(Column::kStep, "step", wide, impl.step); !r)
    return r.error();
  if (const auto r = impl.read_layers(limits.num_layers); !r) return r.error();
  if (const auto r = impl.read_ids(schema, limits.num_experts); !r) return r.error();
  if (!limits.layers.empty()) {
    if (const auto r = impl.check_layers(schema, limits.layers); !r) return r.error();
  }
  if (const auto r = impl.read_weights(schema); !r) return r.error();
  if (const auto r = impl.read_seq(); !r) return r.error();
  return RowRun{impl.request, impl.token_idx, impl.step,        impl.seq,
                impl.layer,   impl.ids,       impl.weights_seen};
}

}  // namespace moetrace::trace
