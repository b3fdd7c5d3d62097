#include "daemon/collector/xpub_socket.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <utility>

#include "daemon/endpoints.hpp"

namespace moetrace {
namespace {

// Messages that we hold for one slow subscriber: at most 200 kB each, 50 MB in all. By default the
// subscriber holds a thousand more itself; beyond that it misses messages.
constexpr int kHighWaterMark = 256;
// Bytes that we hold for all slow subscribers together. From kCrowded on, the one that has not read
// for the longest is disconnected; above kMostHeld, messages are dropped. One subscriber alone
// reaches neither.
constexpr std::size_t kCrowded = 60 << 20;
constexpr std::size_t kMostHeld = 80 << 20;
// The longest message from a subscriber, and the longest greeting, which may hold a name. libzmq
// disconnects a subscriber that sends a longer one.
constexpr std::int64_t kMostMessageBytes = 1024;
// Messages from subscribers to take at once.
constexpr int kPortion = 256;
// At the end, wait this long for the last batches; a stopped reader can't hold us longer.
constexpr std::chrono::milliseconds kLinger{1000};
constexpr const char* kEventsEndpoint = "inproc://accepted";
constexpr std::string_view kMeta = "meta";

// 0: the file does not exist.
std::uint64_t inode_of(const std::string& file) {
  struct stat status {};
  return ::lstat(file.c_str(), &status) == 0 ? status.st_ino : 0;
}

struct HeldFrame {
  std::string bytes;
  std::shared_ptr<std::atomic<std::size_t>> held;
};

// libzmq calls it, in any of its threads, when no subscriber needs the frame any more.
void release(void*, void* hint) {
  const std::unique_ptr<HeldFrame> frame(static_cast<HeldFrame*>(hint));
  // relaxed: a byte count for a limit; it orders no other memory.
  frame->held->fetch_sub(frame->bytes.size(), std::memory_order_relaxed);
}

// Counts its bytes in `held` as long as libzmq holds them.
zmq::message_t held_frame(std::string bytes, std::shared_ptr<std::atomic<std::size_t>> held) {
  held->fetch_add(bytes.size(), std::memory_order_relaxed);
  auto* frame = new HeldFrame{std::move(bytes), std::move(held)};
  return {frame->bytes.data(), frame->bytes.size(), release, frame};
}

}  // namespace

Result<std::unique_ptr<XpubSocket>> XpubSocket::bind(const std::vector<std::string>& endpoints,
                                                     Say say) {
  std::unique_ptr<XpubSocket> made(new XpubSocket(std::move(say)));
  try {
    made->open();
  } catch (const zmq::error_t& error) {
    return Error{ErrorCode::kSystem, std::string("publish: can't make a socket: ") + error.what() +
                                         "; give --publish none"};
  }
  for (const std::string& endpoint : endpoints) {
    if (const std::string why = made->bind_to(endpoint); !why.empty()) {
      return Error{ErrorCode::kBadArgument,
                   "publish " + endpoint + ": can't bind: " + why +
                       "; give a free endpoint such as ipc:///tmp/moe.pub or tcp://127.0.0.1:5556"};
    }
  }
  return made;
}

XpubSocket::~XpubSocket() {
  try {
    unlink_files();
    close(kLinger);
  } catch (const std::exception&) {
    // Only without memory, or if libzmq refused to set an option; the process ends or goes on
    // without this socket.
  }
}

// libzmq does not remove its socket files.
void XpubSocket::unlink_files() {
  for (const Bound& bound : std::exchange(bound_, {})) {
    if (bound.file && inode_of(*bound.file) == bound.inode) ::unlink(bound.file->c_str());
  }
}

std::vector<std::string> XpubSocket::endpoints() const {
  std::vector<std::string> endpoints;
  for (const Bound& bound : bound_) endpoints.push_back(bound.endpoint);
  return endpoints;
}

void XpubSocket::open() {
  context_ = std::make_unique<zmq::context_t>();
  socket_ = zmq::socket_t(*context_, zmq::socket_type::xpub);
  socket_.set(zmq::sockopt::sndhwm, kHighWaterMark);
  // Set it before the bind: an accepted connection keeps the value that the socket had then, and
  // libzmq's default is to wait for ever.
  set_linger(kLinger);
  // A message from a subscriber stays in its connection until we have taken the one before.
  socket_.set(zmq::sockopt::rcvhwm, 1);
  socket_.set(zmq::sockopt::maxmsgsize, kMostMessageBytes);
  // Report repeated subscriptions and their ends, too: each subscription to `meta` asks for the
  // first line again, and each counts for the limits.
  socket_.set(zmq::sockopt::xpub_verboser, true);
  if (::zmq_socket_monitor(socket_.handle(), kEventsEndpoint, ZMQ_EVENT_ACCEPTED) != 0)
    throw zmq::error_t();
  events_ = zmq::socket_t(*context_, zmq::socket_type::pair);
  // Without a limit: otherwise libzmq's thread would wait for us.
  events_.set(zmq::sockopt::rcvhwm, 0);
  events_.connect(kEventsEndpoint);
}

void XpubSocket::set_linger(std::chrono::milliseconds time) {
  socket_.set(zmq::sockopt::linger, static_cast<int>(time.count()));
}

void XpubSocket::close(std::chrono::milliseconds linger) {
  if (!context_) return;
  ::zmq_socket_monitor(socket_.handle(), nullptr, 0);
  events_.set(zmq::sockopt::linger, 0);
  events_.close();
  set_linger(linger);
  socket_.close();
  context_.reset();
}

// Why it can't bind, or "".
std::string XpubSocket::bind_to(const std::string& endpoint) {
  // libzmq would remove the file of a live socket.
  if (const auto file = socket_file(endpoint)) {
    if (std::string why = socket_taken(*file); !why.empty()) return why;
  }
  try {
    socket_.bind(endpoint);
    Bound bound;
    bound.endpoint = socket_.get(zmq::sockopt::last_endpoint);
    bound.file = socket_file(bound.endpoint);
    if (bound.file) bound.inode = inode_of(*bound.file);
    bound_.push_back(std::move(bound));
  } catch (const zmq::error_t& error) {
    return error.what();
  }
  return "";
}

bool XpubSocket::mend() {
  bool changed = false;
  for (const Bound& bound : std::vector<Bound>(bound_)) {
    if (!bound.file) continue;
    const std::uint64_t inode = inode_of(*bound.file);
    if (inode == bound.inode) continue;
    changed = true;
    std::erase_if(bound_, [&](const Bound& old) { return old.endpoint == bound.endpoint; });
    ::zmq_unbind(socket_.handle(), bound.endpoint.c_str());
    const std::string why = inode == 0 ? bind_to(bound.endpoint) : "another program has the name";
    say_("publish " + bound.endpoint + ": its socket file was deleted; " +
         (why.empty() ? "made again, subscribers connect anew"
                      : "not made again: " + why + "; start moetraced again to publish there"));
  }
  return changed;
}

void XpubSocket::wait(int descriptor, std::chrono::milliseconds time) {
  if (unknown_peers_flood_) drop_all();
  if (limits_.any()) time = std::min(time, SubscriberLimits::kLookEvery);
  zmq_pollitem_t items[2] = {{nullptr, descriptor, ZMQ_POLLIN, 0},
                             {socket_.handle(), 0, ZMQ_POLLIN, 0}};
  ::zmq_poll(items, socket_ ? 2 : 1, static_cast<long>(time.count()));
}

bool XpubSocket::take_subscriptions() {
  if (!socket_) return true;
  const auto now = std::chrono::steady_clock::now();
  if (now >= look_at_) {
    take_accepted();
    look_at_ = now + limits_.look(held_->load(std::memory_order_relaxed) > kCrowded);
  }
  for (int taken = 0; taken < kPortion; ++taken) {
    zmq::message_t message;
    if (!socket_.recv(message, zmq::recv_flags::dontwait)) return true;
    take(message);
  }
  return false;
}

// The first byte, 1, subscribes, or 0, unsubscribes; the topic, a prefix, follows.
void XpubSocket::take(zmq::message_t& message) {
  const std::string_view text = message.to_string_view();
  const bool subscribes = text.starts_with('\1');
  if (subscribes && kMeta.starts_with(text.substr(1))) ++meta_subscriptions_;
  // A connection that ends unsubscribes without a sender.
  const int sender = ::zmq_msg_get(message.handle(), ZMQ_SRCFD);
  if (!text.empty()) {
    route_subscribers_.take(sender, text.substr(1), subscribes);
    rows_subscribers_.take(sender, text.substr(1), subscribes);
  }
  if (sender < 0 && !subscribes) return;
  if (!limits_.allow(sender, text) && sender < 0) unknown_peers_flood_ = true;
}

void XpubSocket::take_accepted() {
  for (zmq::message_t part; events_.recv(part, zmq::recv_flags::dontwait);) {
    // {event, 2 bytes; descriptor, 4 bytes}, then a frame with the endpoint
    std::int32_t fd = -1;
    if (!part.more() || part.size() != 6) continue;
    std::memcpy(&fd, static_cast<const char*>(part.data()) + 2, sizeof fd);
    limits_.accepted(fd);
  }
}

// The last resort, for a flood from a connection that libzmq does not name: drops all connections.
void XpubSocket::drop_all() {
  unknown_peers_flood_ = false;
  const std::vector<std::string> endpoints = this->endpoints();
  unlink_files();
  close(std::chrono::milliseconds(0));
  limits_.clear();
  route_subscribers_.clear();
  rows_subscribers_.clear();
  try {
    open();
  } catch (const zmq::error_t& error) {
    socket_.close();
    return say_(std::string("publish: can't make a socket: ") + error.what() +
                "; publishing has ended; start moetraced again");
  }
  for (const std::string& endpoint : endpoints) {
    if (const std::string why = bind_to(endpoint); !why.empty())
      say_("publish " + endpoint + ": can't bind again: " + why + "; start moetraced again");
  }
}

bool XpubSocket::send_topic(std::string_view topic) {
  if (unknown_peers_flood_) drop_all();
  if (held_->load(std::memory_order_relaxed) > kMostHeld) return false;
  try {
    return socket_.send(zmq::buffer(topic), zmq::send_flags::sndmore).has_value();
  } catch (const zmq::error_t&) {
    return false;
  }
}

void XpubSocket::send_rest(std::string header, std::string content) {
  zmq::message_t first = held_frame(std::move(header), held_);
  zmq::message_t second = held_frame(std::move(content), held_);
  try {
    socket_.send(first, zmq::send_flags::sndmore);
    socket_.send(second, zmq::send_flags::none);
  } catch (const zmq::error_t&) {
    // The message keeps its number, so subscribers count it as missed.
  }
}

}  // namespace moetrace
