// A column of a batch: int32 numbers in an array of numpy's.
#pragma once

#include <cstdint>

#include "python/vllm_steps/reference.hpp"

namespace moetrace {

// Numpy, as far as columns need it. Its array's own fields are read, because its functions take 4
// us with cold caches: their places are a part of numpy's binary interface, which its C macros
// compile into extensions, and an array is looked at first that tells whether they hold.
class Numpy {
 public:
  // Empty, and a Python exception: there is no numpy.
  static Numpy load();

  explicit operator bool() const { return static_cast<bool>(int32_); }
  bool reads_in_place() const { return fields_hold_; }
  // The numbers of a one-dimensional int32 array that lie behind one another; nullptr: it is
  // another object, and no exception.
  const std::int32_t* numbers(PyObject* array, Py_ssize_t& count) const;

 private:
  Reference array_type_, int32_;
  bool fields_hold_ = false;
};

// One for each argument.
class Column {
 public:
  // The first `count` numbers of a one-dimensional `array`; they live until the next call, and as
  // long as the array. nullptr, and a Python exception, if it has fewer, or is no array. What
  // isn't int32, or doesn't lie in order, is converted.
  const std::int32_t* first(const Numpy& numpy, PyObject* array, Py_ssize_t count);

 private:
  Reference bytes_;  // of what was converted
};

}  // namespace moetrace
