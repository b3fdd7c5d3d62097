#include "daemon/collector/publisher.hpp"

#include <cerrno>
#include <nlohmann/json.hpp>
#include <optional>

#include "daemon/endpoints.hpp"

namespace moetrace {
namespace {

// Messages of at most some 200 kB that one slow subscriber may make us hold: 50 MB. It holds a
// thousand more itself, unless told otherwise; beyond that it misses some.
constexpr int kHighWaterMark = 256;
constexpr std::string_view kMeta = "meta";

}  // namespace

Result<Publisher> Publisher::bind(const std::vector<std::string>& endpoints) {
  Publisher publisher;
  if (endpoints.empty()) return publisher;
  try {
    publisher.socket_ = zmq::socket_t(publisher.context_, zmq::socket_type::xpub);
    publisher.socket_.set(zmq::sockopt::sndhwm, kHighWaterMark);
    publisher.socket_.set(zmq::sockopt::xpub_verbose, true);
    publisher.socket_.set(
        zmq::sockopt::linger,
        1000);  // ms: the last batches still go out, a stopped reader can't keep us
  } catch (const zmq::error_t& error) {
    return Error{ErrorCode::kSystem, std::string("publish: can't make a socket: ") + error.what() +
                                         "; give --publish none"};
  }
  for (const std::string& endpoint : endpoints) {
    try {
      // libzmq would take the file away from whoever listens there.
      const auto file = socket_file(endpoint);
      if (file && answers(*file)) throw zmq::error_t(EADDRINUSE);
      publisher.socket_.bind(endpoint);
      publisher.endpoints_.push_back(publisher.socket_.get(zmq::sockopt::last_endpoint));
    } catch (const zmq::error_t& error) {
      return Error{ErrorCode::kBadArgument,
                   "publish " + endpoint + ": can't bind: " + error.what() +
                       "; give a free endpoint such as ipc:///tmp/moe.pub or tcp://127.0.0.1:5556"};
    }
  }
  return publisher;
}

int Publisher::descriptor() const {
  return endpoints_.empty() ? -1 : socket_.get(zmq::sockopt::fd);
}

// First byte: 1 subscribes, 0 unsubscribes; the topic, a prefix, follows.
void Publisher::take_subscriptions() {
  if (endpoints_.empty()) return;
  for (zmq::message_t message; socket_.recv(message, zmq::recv_flags::dontwait);) {
    const std::string_view text = message.to_string_view();
    if (text.starts_with('\1') && kMeta.starts_with(text.substr(1))) ++meta_subscriptions_;
  }
}

void Publisher::publish_meta_if_due(Channel& channel, const Totals& totals) {
  take_subscriptions();
  if (channel.meta_sent_for == meta_subscriptions_) return;
  send(kMeta, channel.meta_messages, channel, Run{false, 0, 0, std::nullopt, 0, totals}, "");
}

// One message a topic, however many steps a batch has: else a slow moment of a subscriber would
// cost it one message a step.
void Publisher::publish(Channel& channel, const Batch& batch) {
  if (batch.runs.empty()) return;
  Run merged[2];  // [route]
  std::string payload[2];
  for (const Run& run : batch.runs) {
    Run& whole = merged[run.route];
    if (!whole.first_seq) whole.first_seq = run.first_seq;
    whole.count += run.count;
    if (!endpoints_.empty())
      payload[run.route] += batch.text.substr(run.begin, run.end - run.begin);
  }
  merged[1].totals = merged[0].totals = batch.runs.back().totals;
  merged[0].totals.delivered -= merged[1].count;  // its rows are still to come
  if (merged[0].count > 0)
    send(kMeta, channel.meta_messages, channel, merged[0], std::move(payload[0]));
  if (merged[1].count == 0) return;
  publish_meta_if_due(channel, merged[0].totals);
  send("route", channel.route_messages, channel, merged[1], std::move(payload[1]));
}

void Publisher::publish_stats(Channel& channel, const std::string& line, const Totals& totals) {
  publish_meta_if_due(channel, totals);
  send("stats", channel.stats_messages, channel,
       Run{false, 0, line.size(), std::nullopt, 1, totals}, line);
}

void Publisher::send(std::string_view topic, std::uint64_t& number, Channel& channel, Run run,
                     std::string payload) {
  const std::uint64_t message_number = number++;
  if (endpoints_.empty()) return;
  try {
    // XPUB never blocks: a subscriber whose queue is full misses the whole message.
    socket_.send(zmq::buffer(topic), zmq::send_flags::sndmore);
    if (topic == kMeta) lead_with_meta_if_due(channel, run, payload);
    const nlohmann::ordered_json header = {
        {"trace_id", channel.trace_id},
        {"generation", channel.generation},
        {"message", message_number},
        {"first_seq",
         run.first_seq ? nlohmann::ordered_json(*run.first_seq) : nlohmann::ordered_json(nullptr)},
        {"count", run.count},
        {"attempted", run.totals.attempted},
        {"delivered", run.totals.delivered},
        {"filtered", run.totals.filtered},
        {"dropped", run.totals.dropped()},
        {"torn", run.totals.torn()}};
    socket_.send(zmq::buffer(header.dump()), zmq::send_flags::sndmore);
    socket_.send(zmq::buffer(payload), zmq::send_flags::none);
  } catch (const zmq::error_t&) {
    // Counted like any other miss: the message has its number.
  }
}

// libzmq may take a subscription in any call, also in the one that sends the topic, which decides
// who gets the message: somebody may get it who was not there a moment ago. So we look who has come
// when the topic is out, and put the trace's first line in front for them. Who came after that
// moment looks the same to us, and does not get this message: for them the line stays due.
// (With ZMQ_XPUB_MANUAL we would say when a subscription begins, but libzmq before 4.3.5 then
// uses freed memory once a subscriber has left early,
// https://github.com/zeromq/libzmq/pull/4137.)
void Publisher::lead_with_meta_if_due(Channel& channel, Run& run, std::string& payload) {
  const std::uint64_t known = meta_subscriptions_;
  take_subscriptions();
  if (channel.meta_sent_for != meta_subscriptions_ && !payload.starts_with(channel.meta)) {
    payload.insert(0, channel.meta);
    ++run.count;
  }
  channel.meta_sent_for = known;
}

}  // namespace moetrace
