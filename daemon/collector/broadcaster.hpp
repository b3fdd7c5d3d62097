// The thread that publishes. The collector's thread only fills its queue, so that no subscriber,
// however slow or hostile, delays the drain.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "daemon/collector/message_queue.hpp"
#include "daemon/collector/xpub_socket.hpp"
#include "daemon/endpoints.hpp"

namespace moetrace {

class Broadcaster {
 public:
  // Writes the list of the socket's endpoints, and restores list and socket files if they vanish.
  Broadcaster(std::unique_ptr<XpubSocket> socket, std::unique_ptr<EndpointList> list);
  // Publishes the queued messages, then ends.
  ~Broadcaster();
  Broadcaster(const Broadcaster&) = delete;
  Broadcaster& operator=(const Broadcaster&) = delete;

  MessageQueue& queue() { return queue_; }
  // Whether anyone subscribes to `route`, and to `rows`. Any thread may call them.
  bool wants_routes() const { return socket_->wants_routes(); }
  bool wants_rows() const { return socket_->wants_rows(); }

 private:
  void run();
  void mend();
  void take(Message message);
  void publish_due_metas();
  void send(PublishedTrace& trace, Topic topic, Run run, std::string content,
            const std::string& requests = {});
  void lead_with_meta_if_due(PublishedTrace& trace, Run& run, std::string& lines);

  MessageQueue queue_;
  std::unique_ptr<XpubSocket> socket_;
  std::unique_ptr<EndpointList> list_;
  std::chrono::steady_clock::time_point mended_;
  std::vector<std::shared_ptr<PublishedTrace>> traces_;
  std::thread thread_;
};

}  // namespace moetrace
