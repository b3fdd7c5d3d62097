// The device: a thread that does what streams and graphs give it, in any order that these allow.
// What an order is missing for shows: the next to be done is drawn from all that may be.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace moetrace::emulator {

struct Work {
  std::function<bool()> run;  // false: a bad address; null: nothing
  std::size_t waits_for = 0;
  std::vector<std::shared_ptr<Work>> followers;
  bool done = false;
};
using WorkList = std::vector<std::shared_ptr<Work>>;

class Device {
 public:
  static Device& get();

  // Done after all of `after`, and not before that.
  std::shared_ptr<Work> add(std::function<bool()> run, const WorkList& after);
  // Until all of these are done.
  void wait_for(const WorkList& works);
  void wait_for_all();
  // A kernel reached for memory that is not there: nothing is done any more.
  bool broken();

 private:
  Device();
  void serve();
  void finish(Work& work);

  std::mutex mutex_;
  std::condition_variable changed_;
  WorkList ready_;
  std::size_t unfinished_ = 0;
  std::size_t waiters_ = 0;  // host threads that wait
  std::size_t may_do_ = 0;   // so many are done though nobody waits
  bool broken_ = false;
  std::thread thread_;
};

}  // namespace moetrace::emulator
