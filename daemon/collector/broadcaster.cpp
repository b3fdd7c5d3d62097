#include "daemon/collector/broadcaster.hpp"

#include <signal.h>

#include <nlohmann/json.hpp>
#include <optional>

namespace moetrace {
namespace {

// What waits for the thread: half a second of the fastest drain.
constexpr std::size_t kMostQueued = 16 << 20;
// How often files that others find us by are looked at, and so the longest wait.
constexpr std::chrono::milliseconds kMendEvery{1000};
constexpr std::string_view kNames[kTopics] = {"route", "meta", "stats"};

std::string header_text(const PublishedTrace& trace, std::uint64_t number, const Run& run) {
  using Json = nlohmann::ordered_json;
  const Json header = {{"trace_id", trace.trace_id},
                       {"generation", trace.generation},
                       {"message", number},
                       {"first_seq", run.first_seq ? Json(*run.first_seq) : Json(nullptr)},
                       {"count", run.count},
                       {"attempted", run.totals.attempted},
                       {"delivered", run.totals.delivered},
                       {"filtered", run.totals.filtered},
                       {"dropped", run.totals.dropped()},
                       {"torn", run.totals.torn()}};
  return header.dump();
}

}  // namespace

Broadcaster::Broadcaster(std::unique_ptr<XpubSocket> socket, std::unique_ptr<EndpointList> list)
    : queue_(kMostQueued), socket_(std::move(socket)), list_(std::move(list)) {
  list_->write(socket_->endpoints());
  // Signals are for the thread that waits for them.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Broadcaster::~Broadcaster() {
  queue_.close();
  thread_.join();
}

void Broadcaster::run() {
  while (true) {
    mend();
    const bool all_seen = socket_->take_subscriptions();
    publish_due_metas();
    if (auto message = queue_.pop()) {
      take(std::move(*message));
    } else if (queue_.closed()) {
      return;
    } else if (all_seen) {
      socket_->wait(queue_.descriptor(), kMendEvery);
    }
  }
}

// Whatever cleans temporary folders may take our files away.
void Broadcaster::mend() {
  const auto now = std::chrono::steady_clock::now();
  if (now - mended_ < kMendEvery) return;
  mended_ = now;
  // The list first: it makes its folder again, which may be that of the socket.
  if (!list_->linked()) list_->write(socket_->endpoints());
  if (socket_->mend()) list_->write(socket_->endpoints());
}

void Broadcaster::take(Message message) {
  PublishedTrace& trace = *message.trace;
  trace.next_number[static_cast<std::size_t>(message.topic)] += message.missed;
  trace.totals = message.run.totals;
  if (message.kind == Message::Kind::kBegin) {
    trace.meta = std::move(message.text);
    traces_.push_back(std::move(message.trace));
    return;
  }
  send(trace, message.topic, message.run, std::move(message.text));
}

// To those who have come since a trace's first line was sent.
void Broadcaster::publish_due_metas() {
  // Nobody else has it: the collector has let go of the trace, and its last message is out.
  std::erase_if(traces_, [](const auto& trace) { return trace.use_count() == 1; });
  for (const auto& trace : traces_) {
    if (trace->meta_sent_for == socket_->meta_subscriptions()) continue;
    send(*trace, Topic::kMeta, Run{false, 0, 0, std::nullopt, 0, trace->totals}, "");
  }
}

void Broadcaster::send(PublishedTrace& trace, Topic topic, Run run, std::string lines) {
  const auto index = static_cast<std::size_t>(topic);
  const std::uint64_t number = trace.next_number[index]++;
  // Else it is counted like any other miss: the message has its number.
  if (!socket_->send_topic(kNames[index])) return;
  if (topic == Topic::kMeta) lead_with_meta_if_due(trace, run, lines);
  socket_->send_rest(header_text(trace, number, run), std::move(lines));
}

// libzmq may take a subscription in any call, also in the one that sends the topic, which decides
// who gets the message: somebody may get it who was not there a moment ago. So we look who has come
// when the topic is out, and put the trace's first line in front for them; also if there are more
// subscriptions than we look at. Who came after that moment looks the same to us, and does not get
// this message: for them the line stays due.
// (With ZMQ_XPUB_MANUAL we would say when a subscription begins, but libzmq before 4.3.5 then
// uses freed memory once a subscriber has left early,
// https://github.com/zeromq/libzmq/pull/4137.)
void Broadcaster::lead_with_meta_if_due(PublishedTrace& trace, Run& run, std::string& lines) {
  const std::uint64_t known = socket_->meta_subscriptions();
  const bool all_seen = socket_->take_subscriptions();
  const bool due = trace.meta_sent_for != socket_->meta_subscriptions() || !all_seen;
  if (due && !lines.starts_with(trace.meta)) {
    lines.insert(0, trace.meta);
    ++run.count;
  }
  trace.meta_sent_for = known;
}

}  // namespace moetrace
