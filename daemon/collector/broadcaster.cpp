#include "daemon/collector/broadcaster.hpp"

#include <signal.h>

#include <nlohmann/json.hpp>
#include <optional>

namespace moetrace {
namespace {

// Bytes in the queue: half a second of the fastest drain.
constexpr std::size_t kMostQueued = 16 << 20;
// How often to check the endpoint list and the socket files; also the longest wait.
constexpr std::chrono::milliseconds kMendEvery{1000};
constexpr std::string_view kNames[kTopics] = {"route", "meta", "stats", "rows"};

std::string header_text(const PublishedTrace& trace, std::uint64_t number, const Run& run,
                        const std::string& requests) {
  using Json = nlohmann::ordered_json;
  const Json header = {{"trace_id", trace.trace_id},
                       {"generation", trace.generation},
                       {"message", number},
                       {"first_seq", run.first_seq ? Json(*run.first_seq) : Json(nullptr)},
                       {"count", run.count},
                       {"attempted", run.totals.attempted()},
                       {"delivered", run.totals.delivered()},
                       {"filtered", run.totals.filtered()},
                       {"dropped", run.totals.dropped()},
                       {"torn", run.totals.torn()}};
  std::string text = header.dump();
  if (!requests.empty()) text.replace(text.size() - 1, 1, ",\"requests\":" + requests + "}");
  return text;
}

}  // namespace

Broadcaster::Broadcaster(std::unique_ptr<XpubSocket> socket, std::unique_ptr<EndpointList> list)
    : queue_(kMostQueued), socket_(std::move(socket)), list_(std::move(list)) {
  list_->write(socket_->endpoints());
  // Block all signals in the new thread: the main thread reads them.
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

// A cleaner of temporary folders may remove our files.
void Broadcaster::mend() {
  const auto now = std::chrono::steady_clock::now();
  if (now - mended_ < kMendEvery) return;
  mended_ = now;
  // The list first: it restores its folder, which may be the socket's, too.
  if (!list_->linked()) list_->write(socket_->endpoints());
  if (socket_->mend()) list_->write(socket_->endpoints());
}

void Broadcaster::take(Message message) {
  PublishedTrace& trace = *message.trace;
  trace.next_number[static_cast<std::size_t>(message.topic)] += message.missed;
  // Lines say what was so before rows that have gone out already.
  if (message.run.totals.next_seq() >= trace.totals.next_seq()) trace.totals = message.run.totals;
  if (message.kind == Message::Kind::kBegin) {
    trace.meta = std::move(message.text);
    traces_.push_back(std::move(message.trace));
    return;
  }
  send(trace, message.topic, message.run, std::move(message.text), message.requests);
}

// Sends a trace's first line if a subscription to `meta` came since the last time.
void Broadcaster::publish_due_metas() {
  // The last reference: the collector has dropped the trace, and its last message is out.
  std::erase_if(traces_, [](const auto& trace) { return trace.use_count() == 1; });
  for (const auto& trace : traces_) {
    if (trace->meta_sent_for == socket_->meta_subscriptions()) continue;
    send(*trace, Topic::kMeta, Run{false, 0, 0, std::nullopt, 0, trace->totals}, "");
  }
}

void Broadcaster::send(PublishedTrace& trace, Topic topic, Run run, std::string content,
                       const std::string& requests) {
  const auto index = static_cast<std::size_t>(topic);
  const std::uint64_t number = trace.next_number[index]++;
  // A refused message keeps its number, so subscribers count it as missed.
  if (!socket_->send_topic(kNames[index])) return;
  if (topic == Topic::kMeta) lead_with_meta_if_due(trace, run, content);
  socket_->send_rest(header_text(trace, number, run, requests), std::move(content));
}

// The call that sends the topic decides who gets the message, and libzmq may accept a subscription
// in that very call. So check for new subscriptions after the topic is out, and put the trace's
// first line before the message for them; do the same if more subscriptions wait than one check
// takes. A subscriber that came after the topic looks the same to us and does not get this message:
// for it the line stays due. (ZMQ_XPUB_MANUAL would let us accept a subscription at a known moment,
// but libzmq before 4.3.5 then uses freed memory once a subscriber has left early,
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
