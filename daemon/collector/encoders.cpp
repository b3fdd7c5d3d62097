#include "daemon/collector/encoders.hpp"

#include <signal.h>

#include <algorithm>

namespace moetrace {
Encoders::~Encoders() {
  {
    const std::lock_guard hold(lock_);
    stop_ = true;
  }
  work_.notify_all();
  for (std::thread& thread : others_) thread.join();
}

void Encoders::start_threads() {
  // The main thread reads the signals. A cut ring's SIGBUS comes to the thread that reads it
  // (cut_guard.hpp), and must not be blocked there.
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::sigdelset(&all, SIGBUS);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  while (others_.size() + 1 < threads_) others_.emplace_back([this] { run(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void Encoders::begin(Job& job) {
  if (threads_ < 2 || job.block_.chunks() < 2) return;
  if (others_.empty()) start_threads();
  {
    const std::lock_guard hold(lock_);
    jobs_.push_back(&job);
  }
  work_.notify_all();
}

void Encoders::finish(Job& job) {
  std::unique_lock hold(lock_);
  while (job.next_ < job.block_.chunks()) {
    const std::size_t chunk = take_chunk(job);
    hold.unlock();
    job.block_.encode(chunk);
    hold.lock();
    ++job.done_;
  }
  done_.wait(hold, [&] { return job.done_ == job.block_.chunks(); });
}

void Encoders::withdraw(Job& job) {
  std::unique_lock hold(lock_);
  forget(job);
  done_.wait(hold, [&] { return job.done_ == job.next_; });
}

void Encoders::run() {
  std::unique_lock hold(lock_);
  while (true) {
    work_.wait(hold, [&] { return stop_ || !jobs_.empty(); });
    if (stop_) return;
    Job& job = *jobs_.front();
    const std::size_t chunk = take_chunk(job);
    hold.unlock();
    job.block_.encode(chunk);
    hold.lock();
    // The job may be gone as soon as the lock is.
    if (++job.done_ == job.next_) done_.notify_all();
  }
}

std::size_t Encoders::take_chunk(Job& job) {
  const std::size_t chunk = job.next_++;
  if (job.next_ == job.block_.chunks()) forget(job);
  return chunk;
}

void Encoders::forget(Job& job) {
  std::erase(jobs_, &job);
}

}  // namespace moetrace
