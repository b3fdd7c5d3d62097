// The emulated device: a thread that executes the work of streams and graphs in any order that they
// allow. It picks the next work at random among all that is ready, so a missing dependency shows.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace moetrace::emulator {

struct Work {
  // Returns false after an access to a bad address. Null: nothing to do.
  std::function<bool()> run;
  // Number of earlier works that are not done.
  std::size_t waits_for = 0;
  std::vector<std::shared_ptr<Work>> followers;
  bool done = false;
};
using WorkList = std::vector<std::shared_ptr<Work>>;

class Device {
 public:
  static Device& get();

  // Adds work that runs after all of `after`.
  std::shared_ptr<Work> add(std::function<bool()> run, const WorkList& after);
  // Returns once all of `works` are done.
  void wait_for(const WorkList& works);
  void wait_for_all();
  // True after a kernel accessed memory that does not exist: the device runs nothing any more.
  bool broken();

 private:
  Device();
  void serve();
  void finish(Work& work);

  std::mutex mutex_;
  std::condition_variable changed_;
  WorkList ready_;
  std::size_t unfinished_ = 0;
  // Host threads that wait.
  std::size_t waiters_ = 0;
  // Works to run at once although no host thread waits.
  std::size_t may_do_ = 0;
  bool broken_ = false;
  std::thread thread_;
};

}  // namespace moetrace::emulator
