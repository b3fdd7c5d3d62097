// A column of a batch: int32 numbers in a numpy array.
#pragma once

#include <cstdint>

#include "python/vllm_steps/reference.hpp"

namespace moetrace {

// The part of numpy that columns need. An array's fields are read in place, because numpy's
// functions take 4 us with cold caches. The fields' offsets are a part of numpy's binary interface:
// its C macros compile them into extensions. `load` checks them on an array of known contents.
class Numpy {
 public:
  // Without numpy: an empty object, and a Python exception.
  static Numpy load();

  explicit operator bool() const { return static_cast<bool>(int32_); }
  bool reads_in_place() const { return fields_hold_; }
  // The numbers of a contiguous one-dimensional int32 array. nullptr, without an exception, for any
  // other object.
  const std::int32_t* numbers(PyObject* array, Py_ssize_t& count) const;

 private:
  Reference array_type_, int32_;
  bool fields_hold_ = false;
};

// One object for each argument.
class Column {
 public:
  // The first `count` numbers of a one-dimensional `array`. They live until the next call, and no
  // longer than the array. Another type or layout is converted. nullptr, and a Python exception, if
  // the array is shorter, or is not an array.
  const std::int32_t* first(const Numpy& numpy, PyObject* array, Py_ssize_t count);

 private:
  Reference bytes_;  // of the converted array
};

}  // namespace moetrace
