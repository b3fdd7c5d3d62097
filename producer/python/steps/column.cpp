#include "producer/python/steps/column.hpp"

namespace moetrace {
namespace {

// 1, 0, or -1 and an exception.
int is_int32(PyObject* type) {
  const Reference name(PyUnicode_FromString("int32"));
  return name ? PyObject_RichCompareBool(type, name.get(), Py_EQ) : -1;
}

const std::int32_t* too_few(Py_ssize_t has, Py_ssize_t count) {
  PyErr_Format(PyExc_ValueError, "a column of the batch has %zd numbers; it needs %zd", has, count);
  return nullptr;
}

}  // namespace

const std::int32_t* Column::first(PyObject* array, Py_ssize_t count) {
  if (array != array_.get()) {
    array_ = Reference::to(array);
    held_ = nullptr;
    tried_ = false;
  } else if (!tried_) {
    tried_ = true;
    if (!hold(array)) {
      if (PyErr_Occurred() != nullptr) return nullptr;
    }
  }
  if (held_ == nullptr) return copy(array, count);
  return size_ >= count ? held_ : too_few(size_, count);
}

// Its memory stays where it is as long as somebody else has the array.
bool Column::hold(PyObject* array) {
  const Reference type(PyObject_GetAttrString(array, "dtype"));
  if (!type || is_int32(type.get()) != 1) return false;
  const Reference flags(PyObject_GetAttrString(array, "flags"));
  const Reference contiguous(flags ? PyObject_GetAttrString(flags.get(), "c_contiguous") : nullptr);
  if (!contiguous || PyObject_IsTrue(contiguous.get()) != 1) return false;
  const Reference memory(PyObject_GetAttrString(array, "ctypes"));
  const Reference address(memory ? PyObject_GetAttrString(memory.get(), "data") : nullptr);
  const Py_ssize_t size = PyObject_Size(array);
  if (!address || size < 0) return false;
  held_ = static_cast<const std::int32_t*>(PyLong_AsVoidPtr(address.get()));
  size_ = size;
  return held_ != nullptr;
}

const std::int32_t* Column::copy(PyObject* array, Py_ssize_t count) {
  Reference type(PyObject_GetAttrString(array, "dtype"));
  if (!type) return nullptr;
  Reference converted;
  if (type.get() != int32_.get()) {
    const int same = is_int32(type.get());
    if (same < 0) return nullptr;
    if (same == 1) {
      int32_ = std::move(type);
    } else {
      converted = Reference(PyObject_CallMethod(array, "astype", "s", "int32"));
      if (!converted) return nullptr;
      array = converted.get();
    }
  }
  bytes_ = Reference(PyObject_CallMethod(array, "tobytes", nullptr));
  char* numbers = nullptr;
  Py_ssize_t size = 0;
  if (!bytes_ || PyBytes_AsStringAndSize(bytes_.get(), &numbers, &size) != 0) return nullptr;
  const auto has = size / Py_ssize_t{sizeof(std::int32_t)};
  // A bytes object's text is aligned for any number.
  return has >= count ? reinterpret_cast<const std::int32_t*>(numbers) : too_few(has, count);
}

}  // namespace moetrace
