#include "shm/written.hpp"

#include "shm/shared_lines.hpp"

namespace moetrace {

// relaxed, here and there: numbers for a person; none orders another.
void store_written(const SegmentMap& map, const Written& written) {
  moetrace_written* to = &map.ctl()->written;
  const auto store = [](std::uint64_t* at, std::uint64_t value) {
    SharedWord(at).store(value, std::memory_order_relaxed);
  };
  store(&to->bytes, written.bytes);
  store(&to->bytes_an_hour, written.bytes_an_hour);
  store(&to->room_plus_1, written.room ? *written.room + 1 : 0);
  store(&to->total_bytes_an_hour, written.total_bytes_an_hour);
  store(&to->encoder_threads, written.encoder_threads);
}

std::optional<Written> read_written(const SegmentMap& map) {
  moetrace_written* from = &map.ctl()->written;
  const auto load = [](std::uint64_t* at) {
    return SharedWord(at).load(std::memory_order_relaxed);
  };
  Written written{load(&from->bytes), load(&from->bytes_an_hour), std::nullopt,
                  load(&from->total_bytes_an_hour), load(&from->encoder_threads)};
  if (written.bytes == 0) return std::nullopt;
  if (const std::uint64_t room = load(&from->room_plus_1); room > 0) written.room = room - 1;
  return written;
}

}  // namespace moetrace
