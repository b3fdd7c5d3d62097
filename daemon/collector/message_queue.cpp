#include "daemon/collector/message_queue.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

namespace moetrace {
namespace {

// The memory of a message without its texts.
constexpr std::size_t kOverhead = 512;

std::size_t bytes_of(const Message& message) {
  return message.text.capacity() + message.requests.capacity() + kOverhead;
}

}  // namespace

MessageQueue::MessageQueue(std::size_t most_bytes)
    : most_bytes_(most_bytes), event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

bool MessageQueue::push(Message& message) {
  const std::lock_guard guard(mutex_);
  const std::size_t bytes = bytes_of(message);
  if (message.kind == Message::Kind::kLines && !messages_.empty() && bytes_ + bytes > most_bytes_)
    return false;
  bytes_ += bytes;
  messages_.push_back(std::move(message));
  if (messages_.size() == 1) wake();
  return true;
}

std::optional<Message> MessageQueue::pop() {
  const std::lock_guard guard(mutex_);
  if (messages_.empty()) return std::nullopt;
  Message message = std::move(messages_.front());
  messages_.pop_front();
  bytes_ -= bytes_of(message);
  std::uint64_t ignored = 0;
  if (messages_.empty() && !closed_) [[maybe_unused]]
    const ssize_t got = ::read(event_.get(), &ignored, sizeof ignored);
  return message;
}

void MessageQueue::close() {
  const std::lock_guard guard(mutex_);
  closed_ = true;
  wake();
}

bool MessageQueue::closed() const {
  const std::lock_guard guard(mutex_);
  return closed_;
}

void MessageQueue::wake() const {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t wrote = ::write(event_.get(), &one, sizeof one);
}

}  // namespace moetrace
