#include "producer/cuda/emulator/device.hpp"

#include <algorithm>
#include <chrono>

#include "producer/cuda/emulator/grid.hpp"

namespace moetrace::emulator {
namespace {

// While no host thread waits, let work pile up for this long, so that there is a choice. Not
// longer: a host may poll memory for a result.
constexpr std::chrono::milliseconds kRest{1};
// After each 8 additions, run 8 works at once.
constexpr std::size_t kBurst = 8;

}  // namespace

Device& Device::get() {
  // Never destroyed: its thread lives as long as the process.
  static Device& device = *new Device;
  return device;
}

Device::Device() : thread_([this] { serve(); }) {}

std::shared_ptr<Work> Device::add(std::function<bool()> run, const WorkList& after) {
  auto work = std::make_shared<Work>();
  work->run = std::move(run);
  const std::lock_guard lock(mutex_);
  for (const auto& before : after) {
    if (before->done) continue;
    before->followers.push_back(work);
    ++work->waits_for;
  }
  ++unfinished_;
  if (work->waits_for == 0) ready_.push_back(work);
  if (unfinished_ % kBurst == 0) may_do_ = kBurst;
  changed_.notify_all();
  return work;
}

void Device::wait_for(const WorkList& works) {
  std::unique_lock lock(mutex_);
  ++waiters_;
  changed_.notify_all();
  changed_.wait(lock, [&] {
    return std::all_of(works.begin(), works.end(), [](const auto& work) { return work->done; });
  });
  --waiters_;
}

void Device::wait_for_all() {
  std::unique_lock lock(mutex_);
  ++waiters_;
  changed_.notify_all();
  changed_.wait(lock, [&] { return unfinished_ == 0; });
  --waiters_;
}

bool Device::broken() {
  const std::lock_guard lock(mutex_);
  return broken_;
}

void Device::serve() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return !ready_.empty(); });
    if (waiters_ == 0 && may_do_ == 0)
      changed_.wait_for(lock, kRest, [&] { return waiters_ > 0 || may_do_ > 0; });
    if (may_do_ > 0) --may_do_;
    std::swap(ready_[random_below(ready_.size())], ready_.back());
    const std::shared_ptr<Work> work = std::move(ready_.back());
    ready_.pop_back();
    if (work->run && !broken_) {
      lock.unlock();
      const bool fine = work->run();
      lock.lock();
      broken_ = broken_ || !fine;
    }
    finish(*work);
  }
}

void Device::finish(Work& work) {
  work.done = true;
  for (const auto& follower : work.followers) {
    if (--follower->waits_for == 0) ready_.push_back(follower);
  }
  work.followers.clear();
  --unfinished_;
  changed_.notify_all();
}

}  // namespace moetrace::emulator
