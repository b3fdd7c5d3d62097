// Memory that a process shares with the children that it forks.
#pragma once

#include <sys/mman.h>

#include <new>
#include <stdexcept>
#include <utility>

namespace moetrace::peers {

// One T. Zeroed pages, all touched.
template <class T>
class Shared {
 public:
  Shared() {
    void* memory = ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) throw std::runtime_error("no memory to share");
    object_ = new (memory) T;
  }
  ~Shared() { ::munmap(object_, sizeof(T)); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  T* operator->() const { return object_; }
  T& operator*() const { return *object_; }

 private:
  T* object_;
};

}  // namespace moetrace::peers
