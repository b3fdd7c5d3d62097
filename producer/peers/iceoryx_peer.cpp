// iceoryx: publisher and subscriber, with the daemon iox-roudi. A subscriber's queue holds at most
// 256 records; a full one drops the oldest.
#include <fstream>
#include <iceoryx_posh/popo/publisher.hpp>
#include <iceoryx_posh/popo/subscriber.hpp>
#include <iceoryx_posh/runtime/posh_runtime.hpp>
#include <optional>

#include "producer/peers/harness.hpp"

namespace moetrace::peers {
namespace {

class IceoryxPeer {
 public:
  static constexpr std::uint64_t kBurst = iox::MAX_SUBSCRIBER_QUEUE_CAPACITY;
  static constexpr bool kLive = true;
  static_assert(kBurst % kBlock == 0);

  explicit IceoryxPeer(const Options& options) {
    const std::string log = options.folder + "/roudi.log";
    std::remove(log.c_str());
    daemon_ = start_program({"iox-roudi"}, options.reader_core, log);
    for (int n = 0; !says(log, "RouDi is ready"); ++n) {
      if (ends_within(daemon_, 0.01) || n == 1000)
        throw std::runtime_error("iox-roudi did not start; see " + log);
    }
  }
  ~IceoryxPeer() { stop_child(daemon_); }
  IceoryxPeer(const IceoryxPeer&) = delete;
  IceoryxPeer& operator=(const IceoryxPeer&) = delete;

  void open_writer() {
    connect("writer");
    publisher_.emplace(kService, iox::popo::PublisherOptions{});
  }
  void close_writer() { publisher_.reset(); }
  bool send(const Record& record) { return !publisher_->publishCopyOf(record).has_error(); }

  void open_reader() {
    connect("reader");
    iox::popo::SubscriberOptions options;
    options.queueCapacity = kBurst;
    options.historyRequest = 0;
    subscriber_.emplace(kService, options);
    while (subscriber_->getSubscriptionState() != iox::SubscribeState::SUBSCRIBED) ::usleep(1000);
  }
  void read(Checker& checker) {
    for (std::uint64_t n = 0; n < kBlock; ++n) {
      bool took = false;
      subscriber_->take().and_then([&](const auto& sample) {
        checker.add(*sample);
        took = true;
      });
      if (!took) return;
    }
  }

 private:
  static inline const iox::capro::ServiceDescription kService{"moetrace", "peers", "records"};

  static void connect(const std::string& role) {
    iox::log::LogManager::GetLogManager().SetDefaultLogLevel(
        iox::log::LogLevel::kOff, iox::log::LogLevelOutput::kHideLogLevel);
    const std::string name = "moetrace-" + role + "-" + std::to_string(::getpid());
    iox::runtime::PoshRuntime::initRuntime(
        iox::RuntimeName_t(iox::cxx::TruncateToCapacity, name.c_str()));
  }
  static bool says(const std::string& path, const std::string& text) {
    std::ifstream file(path);
    const std::string all(std::istreambuf_iterator<char>(file), {});
    return all.find(text) != std::string::npos;
  }

  pid_t daemon_ = 0;
  std::optional<iox::popo::Publisher<Record>> publisher_;
  std::optional<iox::popo::Subscriber<Record>> subscriber_;
};

}  // namespace

Result run_iceoryx(const Options& options) {
  return run<IceoryxPeer>(options);
}

}  // namespace moetrace::peers
