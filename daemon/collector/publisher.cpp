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

bool Publisher::take_subscriptions() {
  bool any = false;
  if (endpoints_.empty()) return any;
  // First byte: 1 subscribes, 0 unsubscribes; the topic follows.
  for (zmq::message_t message; socket_.recv(message, zmq::recv_flags::dontwait);) {
    any = any || (message.size() > 0 && *message.data<unsigned char>() == 1);
  }
  return any;
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
  if (merged[0].count > 0) send("meta", channel.meta_messages, channel, merged[0], payload[0]);
  if (merged[1].count > 0) send("route", channel.route_messages, channel, merged[1], payload[1]);
}

void Publisher::publish_meta(Channel& channel, const std::string& line, const Totals& totals) {
  send("meta", channel.meta_messages, channel, Run{false, 0, line.size(), std::nullopt, 1, totals},
       line);
}

void Publisher::publish_stats(Channel& channel, const std::string& line, const Totals& totals) {
  send("stats", channel.stats_messages, channel,
       Run{false, 0, line.size(), std::nullopt, 1, totals}, line);
}

void Publisher::send(const char* topic, std::uint64_t& number, const Channel& channel,
                     const Run& run, std::string_view payload) {
  const std::uint64_t message_number = number++;
  if (endpoints_.empty()) return;
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
  try {
    // XPUB never blocks: a subscriber whose queue is full misses the whole message.
    socket_.send(zmq::buffer(std::string_view(topic)), zmq::send_flags::sndmore);
    socket_.send(zmq::buffer(header.dump()), zmq::send_flags::sndmore);
    socket_.send(zmq::buffer(payload), zmq::send_flags::none);
  } catch (const zmq::error_t&) {
    // Counted like any other miss: the message has its number.
  }
}

}  // namespace moetrace
