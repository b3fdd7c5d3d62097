// A column of a batch: int32 numbers in an array of numpy's.
#pragma once

#include <cstdint>

#include "producer/python/steps/reference.hpp"

namespace moetrace {

// One for each argument: engines give the same array again and again, or one of the same type.
class Column {
 public:
  // The first `count` numbers of a one-dimensional `array`; they live until the next call. nullptr,
  // and a Python exception, if it has fewer, or is no such array. Other types are converted.
  const std::int32_t* first(PyObject* array, Py_ssize_t count);

 private:
  bool hold(PyObject* array);
  const std::int32_t* copy(PyObject* array, Py_ssize_t count);

  Reference array_;                         // of the last call
  const std::int32_t* held_ = nullptr;      // its numbers, once it has been seen twice
  Py_ssize_t size_ = 0;                     // how many
  bool tried_ = false;                      // to hold it
  Reference int32_;                         // numpy's type
  Reference bytes_;
};

}  // namespace moetrace
