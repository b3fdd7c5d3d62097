// moetrace tail: prints the live stream of a session's collector.
#include <signal.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <zmq.hpp>

#include "common/text.hpp"
#include "common/usage.hpp"
#include "daemon/cli/commands.hpp"
#include "daemon/cli/missed_rows.hpp"
#include "daemon/cli/segments.hpp"
#include "daemon/cli/short_line.hpp"
#include "daemon/cli/stop_flag.hpp"
#include "daemon/endpoints.hpp"

namespace moetrace::cli {
namespace {

struct TailOptions {
  std::string session;
  std::string endpoint;
  std::vector<std::string> topics;
  std::optional<std::uint64_t> count;
  bool json = false;
};

// Messages to hold while the output is slow; each has at most 200 kB.
constexpr int kMessagesHeld = 1000;
// The longest delay of a stop signal that comes just before the poll.
constexpr int kPollMs = 200;
constexpr auto kConnectPatience = std::chrono::seconds(3);

boost::system::result<std::string, Failure> find_endpoint(const TailOptions& options) {
  std::vector<std::string> candidates = {options.endpoint};
  if (options.endpoint.empty()) {
    if (auto wrong = session_error(options.session)) return *wrong;
    candidates = read_endpoints(options.session);
  }
  for (const std::string& endpoint : candidates) {
    // A subscriber would retry for ever on the socket file of a killed collector.
    const auto file = socket_file(endpoint);
    if (!file || answers(*file)) return endpoint;
  }
  const std::string what =
      options.endpoint.empty() ? "session " + options.session : options.endpoint;
  const std::string start =
      options.endpoint.empty() ? "--session " + options.session : "--publish " + options.endpoint;
  return Failure{kNothingThere, "tail: no collector publishes on " + what + "; start moetraced " +
                                    start + ", or give --endpoint"};
}

// Says once, after kConnectPatience, that a socket has found no publisher yet.
class ConnectionWatch {
 public:
  // Make it before the socket connects.
  ConnectionWatch(zmq::context_t& context, zmq::socket_t& socket, std::string endpoint)
      : endpoint_(std::move(endpoint)), events_(context, zmq::socket_type::pair) {
    constexpr const char* kEvents = "inproc://tail-connection";
    if (::zmq_socket_monitor(socket.handle(), kEvents, ZMQ_EVENT_HANDSHAKE_SUCCEEDED) != 0)
      throw zmq::error_t();
    events_.set(zmq::sockopt::linger, 0);
    events_.connect(kEvents);
  }

  void look() {
    if (done_) return;
    zmq::message_t event;
    done_ = events_.recv(event, zmq::recv_flags::dontwait).has_value();
    if (done_ || std::chrono::steady_clock::now() - begun_ < kConnectPatience) return;
    done_ = true;
    std::fprintf(
        stderr,
        "moetrace: tail: no collector publishes on %s yet; start moetraced --publish %s, or check "
        "the endpoint; waiting\n",
        endpoint_.c_str(), endpoint_.c_str());
  }

 private:
  std::string endpoint_;
  zmq::socket_t events_;
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
  bool done_ = false;
};

class Tail {
 public:
  explicit Tail(const TailOptions& options) : options_(options) {}

  void run(const std::string& endpoint);
  // Prints how many rows came, and how many were missed.
  void say_totals() const {
    std::fprintf(stderr, "moetrace: tail: %s received, %s missed\n", counted(rows_, "row").c_str(),
                 grouped(missed_.total().rows).c_str());
  }

 private:
  bool enough() const { return options_.count && lines_ >= *options_.count; }
  void take(const std::string& topic, std::string_view header, std::string_view payload);
  void print(std::string_view line, const std::string& trace_id);

  const TailOptions& options_;
  MissedRows missed_;
  // Traces whose meta line was printed: it comes again with each new subscriber.
  std::set<std::string> metas_;
  std::uint64_t lines_ = 0;
  std::uint64_t rows_ = 0;
};

void Tail::run(const std::string& endpoint) {
  zmq::context_t context;
  zmq::socket_t socket(context, zmq::socket_type::sub);
  socket.set(zmq::sockopt::rcvhwm, kMessagesHeld);
  socket.set(zmq::sockopt::linger, 0);
  // Subscribe before the connect: then the collector gets all subscriptions at once.
  for (const std::string& topic : options_.topics) socket.set(zmq::sockopt::subscribe, topic);
  ConnectionWatch watch(context, socket, endpoint);
  socket.connect(endpoint);
  while (!stop_requested() && !enough() && std::ferror(stdout) == 0) {
    watch.look();
    std::array<zmq::message_t, 3> parts;
    zmq::pollitem_t item{socket.handle(), 0, ZMQ_POLLIN, 0};
    // The C function: zmq.hpp would throw on a signal.
    if (::zmq_poll(reinterpret_cast<zmq_pollitem_t*>(&item), 1, kPollMs) <= 0) {
      std::fflush(stdout);
      continue;
    }
    std::size_t received = 0;
    bool more = true;
    for (; more; ++received) {
      zmq::message_t part;
      if (!socket.recv(part, zmq::recv_flags::dontwait)) break;
      more = part.more();
      if (received < parts.size()) parts[received] = std::move(part);
    }
    if (received == parts.size())
      take(parts[0].to_string(), parts[1].to_string_view(), parts[2].to_string_view());
  }
  std::fflush(stdout);
}

void Tail::take(const std::string& topic, std::string_view header, std::string_view payload) {
  const auto json = nlohmann::json::parse(header, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return;
  MessageHead head;
  head.trace_id = json.value("trace_id", "");
  head.generation = json.value("generation", std::uint64_t{0});
  head.number = json.value("message", std::uint64_t{0});
  head.count = json.value("count", std::uint64_t{0});
  head.delivered = json.value("delivered", std::uint64_t{0});
  if (const auto missed = missed_.take(topic, head); missed.any()) {
    std::fflush(stdout);
    std::fprintf(stderr, "moetrace: tail: missed %s in %s on %s of trace %s\n",
                 counted(missed.rows, "row").c_str(), counted(missed.messages, "message").c_str(),
                 topic.c_str(), head.trace_id.c_str());
  }
  if (topic == "route") rows_ += head.count;
  while (!payload.empty() && !enough()) {
    const std::size_t end = std::min(payload.find('\n'), payload.size());
    print(payload.substr(0, end), head.trace_id);
    payload.remove_prefix(std::min(end + 1, payload.size()));
  }
}

void Tail::print(std::string_view line, const std::string& trace_id) {
  if (line.starts_with("{\"type\":\"meta\"") && !metas_.insert(trace_id).second) return;
  ++lines_;
  const std::string text = options_.json ? std::string(line) : short_line(line);
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fputc('\n', stdout);
}

Outcome tail(TailOptions options) {
  if (options.topics.empty()) options.topics = {"route", "meta"};
  const auto endpoint = find_endpoint(options);
  if (!endpoint) return endpoint.error();
  catch_stop_signals();
  // So that `moetrace tail | head` prints the totals, too.
  ::signal(SIGPIPE, SIG_IGN);
  Tail stream(options);
  try {
    stream.run(*endpoint);
  } catch (const std::exception& error) {
    return Failure{kFailed, "tail: " + *endpoint + ": " + error.what() +
                                "; give an endpoint such as tcp://127.0.0.1:5556"};
  }
  stream.say_totals();
  return kOk;
}

}  // namespace

void add_tail(CLI::App& app, Command& chosen) {
  auto* sub = app.add_subcommand("tail", "Print the live stream of a session's collector");
  auto options = std::make_shared<TailOptions>();
  const char* session = std::getenv("MOETRACE_SESSION");
  options->session = session != nullptr && *session != '\0' ? session : "default";
  sub->add_option("--session", options->session,
                  "The session; without it, $MOETRACE_SESSION or default");
  sub->add_option("--endpoint", options->endpoint,
                  "The ZeroMQ endpoint to read; without it, that of the session's collector");
  sub->add_option("--topic", options->topics,
                  "route, meta or stats; repeat it for more. Without it: route and meta")
      ->check(command_line::one_of({"route", "meta", "stats"}));
  sub->add_option("--count", options->count, "End after this many lines")
      ->check(command_line::integer<std::uint64_t>(1));
  sub->add_flag("--json", options->json, "Print the lines of the trace file unchanged");
  sub->callback([options, &chosen] { chosen = [options] { return tail(*options); }; });
}

}  // namespace moetrace::cli
