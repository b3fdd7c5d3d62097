// spdlog's asynchronous logger: a queue inside the process, and a thread that writes a file on
// tmpfs. A full queue overwrites the oldest line.
#include <spdlog/async.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>

#include <filesystem>

#include "producer/peers/file_records.hpp"
#include "producer/peers/harness.hpp"

namespace moetrace::peers {
namespace {

class SpdlogPeer {
 public:
  static constexpr std::uint64_t kBurst = kCapacity / 2;
  static constexpr bool kLive = false;

  explicit SpdlogPeer(const Options& options)
      : folder_(options.folder + "/spdlog"), core_(options.reader_core) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directory(folder_);
  }
  ~SpdlogPeer() { std::filesystem::remove_all(folder_); }

  void open_writer() {
    spdlog::init_thread_pool(kCapacity, 1, [this] { pin_to(core_); });
    logger_ = std::make_shared<spdlog::async_logger>(
        "records", std::make_shared<spdlog::sinks::basic_file_sink_st>(folder_ + "/log"),
        spdlog::thread_pool(), spdlog::async_overflow_policy::overrun_oldest);
    logger_->set_pattern("%v");
  }
  void close_writer() {
    logger_.reset();
    spdlog::shutdown();  // writes what is queued
  }
  bool send(const Record& record) {
    logger_->log(spdlog::level::info,
                 spdlog::string_view_t(reinterpret_cast<const char*>(&record), sizeof record));
    return true;
  }

  void collect(Checker& checker) { read_files(folder_, checker); }
  pid_t consumer() const { return 0; }

 private:
  const std::string folder_;
  const int core_;
  std::shared_ptr<spdlog::async_logger> logger_;
};

}  // namespace

Result run_spdlog(const Options& options) {
  return run<SpdlogPeer>(options);
}

}  // namespace moetrace::peers
