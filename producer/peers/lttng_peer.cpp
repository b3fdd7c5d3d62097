// LTTng-UST: a tracepoint into buffers of 4 MiB a core, which lttng-consumerd writes to files on
// tmpfs. A full buffer discards the newest events.
#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>

#include "producer/peers/file_records.hpp"
#include "producer/peers/harness.hpp"

namespace moetrace::peers {
namespace {

class LttngPeer {
 public:
  static constexpr std::uint64_t kBurst = kCapacity / 2;
  static constexpr bool kLive = false;

  explicit LttngPeer(const Options& options)
      : folder_(options.folder + "/lttng"),
        core_(options.reader_core),
        module_(options.lttng_module) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directory(folder_);
    ::setenv("LTTNG_HOME", folder_.c_str(), 1);
    daemon_ = start_program({"lttng-sessiond", "--no-kernel"}, core_, log());
    try {
      // It answers once it is ready.
      for (int n = 0; !control({"list"}); ++n) {
        if (ends_within(daemon_, 0.05) || n == 100)
          throw std::runtime_error("lttng-sessiond did not start; see " + log());
      }
      session_ = "moetrace-peers-" + std::to_string(::getpid());
      lttng({"create", session_, "--output=" + folder_ + "/trace"});
      lttng({"enable-channel", "--userspace", "--buffers-uid", "--discard", "--subbuf-size=1M",
             "--num-subbuf=4", "records"});
      lttng({"enable-event", "--userspace", "--channel=records", "moetrace_peers:record"});
      lttng({"start"});
    } catch (...) {
      stop_child(daemon_);
      throw;
    }
  }
  ~LttngPeer() {
    control({"destroy", "--no-wait", session_});  // without its consumer it waits for ever
    stop_child(daemon_);
    std::filesystem::remove_all(folder_);
  }
  LttngPeer(const LttngPeer&) = delete;
  LttngPeer& operator=(const LttngPeer&) = delete;

  void open_writer() {
    void* module = ::dlopen(module_.c_str(), RTLD_NOW);
    if (module == nullptr) throw std::runtime_error(::dlerror());
    trace_ = reinterpret_cast<Trace>(::dlsym(module, "moetrace_peers_trace"));
    if (trace_ == nullptr) throw std::runtime_error(::dlerror());
  }
  void close_writer() {}
  bool send(const Record& record) {
    trace_(&record.word);
    return true;
  }

  void collect(Checker& checker) {
    control({"stop", session_});
    read_files(folder_ + "/trace", checker);
  }
  pid_t consumer() const { return descendant_named(daemon_, "lttng-consumerd"); }

 private:
  using Trace = void (*)(const std::uint64_t* words);

  std::string log() const { return folder_ + "/log"; }
  void lttng(std::vector<std::string> words) const {
    words.insert(words.begin(), {"lttng", "--no-sessiond"});
    run_program(words, core_, log());
  }
  bool control(const std::vector<std::string>& words) const {
    try {
      lttng(words);
      return true;
    } catch (const std::runtime_error&) {
      return false;
    }
  }

  const std::string folder_;
  const int core_;
  const std::string module_;
  std::string session_;
  pid_t daemon_ = 0;
  Trace trace_ = nullptr;
};

}  // namespace

Result run_lttng(const Options& options) {
  return run<LttngPeer>(options);
}

}  // namespace moetrace::peers
