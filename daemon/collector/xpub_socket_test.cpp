// Limits the memory that slow readers cost the collector. For floods:
// testing/hostile_subscriber_test.py.
#include "daemon/collector/xpub_socket.hpp"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <chrono>

#include "shm/file_lock.hpp"
#include "shm/test_directory.hpp"

namespace moetrace {
namespace {

// The collector's largest message.
constexpr std::size_t kMessageBytes = 200'000;
// Messages that the socket holds for one reader.
constexpr int kQueue = 256;
constexpr std::chrono::milliseconds kMoment{5};

class SlowReaders : public ::testing::Test {
 protected:
  SlowReaders() : endpoint_("ipc://" + directory_.file("pub")) {
    auto made = XpubSocket::bind({endpoint_}, [this](const std::string& line) { said_ += line; });
    EXPECT_TRUE(made) << made.error().message;
    socket_ = std::move(*made);
  }

  // A connected and subscribed reader. Its own queue takes only a few messages.
  zmq::socket_t reader() {
    zmq::socket_t reader(context_, zmq::socket_type::sub);
    reader.set(zmq::sockopt::rcvhwm, 1);
    reader.set(zmq::sockopt::linger, 0);
    reader.set(zmq::sockopt::subscribe, "");
    reader.connect(endpoint_);
    const std::uint64_t before = socket_->meta_subscriptions();
    while (socket_->meta_subscriptions() == before) look();
    return reader;
  }

  void look() {
    socket_->wait(idle_.get(), kMoment);
    while (!socket_->take_subscriptions()) {
    }
  }

  bool publish() {
    const bool sent = socket_->send_topic("route");
    if (sent) socket_->send_rest("{}", std::string(kMessageBytes, 'x'));
    socket_->take_subscriptions();
    return sent;
  }

  TestDirectory directory_;
  std::string endpoint_;
  std::string said_;
  UniqueFd idle_{::eventfd(0, EFD_CLOEXEC)};
  zmq::context_t context_;
  std::unique_ptr<XpubSocket> socket_;
};

TEST_F(SlowReaders, OneAloneMissesMessagesAndStays) {
  const zmq::socket_t slow = reader();
  for (int n = 0; n < 3 * kQueue; ++n) EXPECT_TRUE(publish());
  EXPECT_EQ(said_, "");
}

TEST_F(SlowReaders, TheLongestStuckIsLetGoWhenTheyHoldTooMuch) {
  const zmq::socket_t first = reader();
  for (int n = 0; n < 2 * kQueue; ++n) EXPECT_TRUE(publish());
  EXPECT_EQ(said_, "");
  // It holds other messages than the first one.
  const zmq::socket_t second = reader();
  while (said_.empty()) {
    if (!publish()) look();
  }
  EXPECT_NE(said_.find("does not read, and memory for slow readers has run out"), std::string::npos)
      << said_;
  // The disconnected reader connects again, too, and gets a new queue.
  zmq::socket_t honest = reader();
  zmq::message_t topic;
  while (!honest.recv(topic, zmq::recv_flags::dontwait)) {
    publish();
    look();
  }
  EXPECT_EQ(topic.to_string(), "route");
}

}  // namespace
}  // namespace moetrace
