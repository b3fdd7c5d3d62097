// Owns a reference to a Python object. For the stable ABI of Python 3.9.
#pragma once

#include <Python.h>

#include <utility>

namespace moetrace {

class Reference {
 public:
  Reference() = default;
  // Takes over a new reference. nullptr: the call failed, and has set an exception.
  explicit Reference(PyObject* owned) : object_(owned) {}
  static Reference to(PyObject* borrowed) {
    Py_XINCREF(borrowed);
    return Reference(borrowed);
  }
  Reference(Reference&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Reference& operator=(Reference&& other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  Reference(const Reference&) = delete;
  Reference& operator=(const Reference&) = delete;
  ~Reference() { Py_XDECREF(object_); }

  PyObject* get() const { return object_; }
  explicit operator bool() const { return object_ != nullptr; }
  bool is_none() const { return object_ == Py_None; }

 private:
  PyObject* object_ = nullptr;
};

}  // namespace moetrace
