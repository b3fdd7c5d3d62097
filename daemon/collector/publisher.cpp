#include "daemon/collector/publisher.hpp"

#include "daemon/collector/broadcaster.hpp"
#include "daemon/runtime_folder.hpp"

namespace moetrace {
namespace {

// Binds the default endpoint in the first usable runtime folder; nullptr without one. An error
// if another collector has it.
Result<std::unique_ptr<XpubSocket>> bind_default(const std::string& session,
                                                 const Publisher::Say& say) {
  std::string passed;
  for (const std::string& folder : runtime_folders()) {
    const std::string file = default_socket(folder, session);
    const std::string endpoint = "ipc://" + file;
    std::string why = prepare_runtime_folder(folder);
    if (why.empty() && file.size() > kMostSocketPath)
      why = "a socket's path there has " + std::to_string(file.size()) + " bytes; the limit is " +
            std::to_string(kMostSocketPath);
    if (why.empty()) {
      auto socket = XpubSocket::bind({endpoint}, say);
      if (!socket) return socket.error();
      if (!passed.empty()) say("publish: " + passed + "publishing on " + endpoint + " instead");
      return socket;
    }
    passed += folder + ": " + why + "; ";
  }
  say("publish: " + passed + "traces are written but not published; give --publish ENDPOINT");
  return nullptr;
}

}  // namespace

Publisher::Publisher() = default;
Publisher::Publisher(Publisher&&) noexcept = default;
Publisher::~Publisher() = default;

Result<Publisher> Publisher::bind(const std::string& session,
                                  const std::vector<std::string>& endpoints, const Say& say) {
  Publisher publisher;
  auto list = std::make_unique<EndpointList>(session, say);
  Result<std::unique_ptr<XpubSocket>> socket = nullptr;
  if (endpoints.empty())
    socket = bind_default(session, say);
  else if (endpoints.front() != "none")
    socket = XpubSocket::bind(endpoints, say);
  if (!socket) return socket.error();
  if (!*socket) {
    list->write({});
    return publisher;
  }
  publisher.endpoints_ = (*socket)->endpoints();
  publisher.broadcaster_ = std::make_unique<Broadcaster>(std::move(*socket), std::move(list));
  return publisher;
}

void Publisher::begin(Channel& channel, const std::string& meta, const RunningTotals& totals) {
  Message message;
  message.kind = Message::Kind::kBegin;
  message.run.totals = totals;
  message.text = meta;
  hand_over(channel, std::move(message));
}

bool Publisher::wants_routes() const {
  return broadcaster_ && broadcaster_->wants_routes();
}

bool Publisher::wants_rows() const {
  return broadcaster_ && broadcaster_->wants_rows();
}

void Publisher::publish_rows(Channel& channel, LiveMessage rows) {
  Message message;
  message.topic = Topic::kRows;
  message.run = Run{false, 0, rows.stream.size(), rows.first_seq, rows.rows, rows.totals};
  message.text = std::move(rows.stream);
  message.requests = std::move(rows.requests);
  hand_over(channel, std::move(message));
}

// One message for each topic, however many steps the batch has: otherwise a slow moment would cost
// a subscriber one message for each step.
void Publisher::publish(Channel& channel, const LineBatch& batch) {
  if (batch.runs.empty() || !broadcaster_) return;
  Message merged[2];  // [route]
  merged[1].topic = Topic::kRoute;
  for (const Run& run : batch.runs) {
    Run& whole = merged[run.route].run;
    if (!whole.first_seq) whole.first_seq = run.first_seq;
    whole.count += run.count;
    merged[run.route].text += run.text;
  }
  merged[1].run.totals = merged[0].run.totals = batch.runs.back().totals;
  // The `meta` message precedes the rows.
  merged[0].run.totals = merged[0].run.totals.before_delivery_of(merged[1].run.count);
  for (Message& message : merged) {
    if (message.run.count > 0) hand_over(channel, std::move(message));
  }
}

void Publisher::publish_stats(Channel& channel, const std::string& line,
                              const RunningTotals& totals) {
  Message message;
  message.topic = Topic::kStats;
  message.run = Run{false, 0, line.size(), std::nullopt, 1, totals};
  message.text = line;
  hand_over(channel, std::move(message));
}

// A full queue loses the message, which keeps its number: subscribers count it as missed.
void Publisher::hand_over(Channel& channel, Message message) {
  if (!broadcaster_) return;
  if (!channel.published) {
    channel.published = std::make_shared<PublishedTrace>();
    channel.published->trace_id = channel.trace_id;
    channel.published->generation = channel.generation;
  }
  std::uint64_t& missed = channel.unannounced[static_cast<std::size_t>(message.topic)];
  message.trace = channel.published;
  message.missed = missed;
  if (broadcaster_->queue().push(message))
    missed = 0;
  else
    ++missed;
}

}  // namespace moetrace
