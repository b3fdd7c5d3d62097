#include "python/vllm_steps/column.hpp"

namespace moetrace {
namespace {

// PyArrayObject_fields of numpy/ndarraytypes.h, the same in numpy 1 and 2.
struct ArrayFields {
  PyObject_HEAD;
  char* data;
  int dimension_count;
  Py_ssize_t* dimensions;
  Py_ssize_t* strides;
  PyObject* base;
  PyObject* descr;
  int flags;
};
constexpr int kAligned = 0x0100;  // NPY_ARRAY_ALIGNED

const ArrayFields& fields(PyObject* array) {
  return *reinterpret_cast<const ArrayFields*>(array);
}

}  // namespace

Numpy Numpy::load() {
  Numpy numpy;
  const Reference module(PyImport_ImportModule("numpy"));
  if (!module) return numpy;
  numpy.array_type_ = Reference(PyObject_GetAttrString(module.get(), "ndarray"));
  if (!numpy.array_type_) return numpy;
  const Reference probe(PyObject_CallMethod(module.get(), "zeros", "is", 2, "int32"));
  const Reference memory(probe ? PyObject_GetAttrString(probe.get(), "ctypes") : nullptr);
  const Reference address(memory ? PyObject_GetAttrString(memory.get(), "data") : nullptr);
  Reference int32(address ? PyObject_GetAttrString(probe.get(), "dtype") : nullptr);
  const void* const data = int32 ? PyLong_AsVoidPtr(address.get()) : nullptr;
  if (data == nullptr) return numpy;
  numpy.int32_ = std::move(int32);
  // Each pointer is followed only if the fields before it have the expected values.
  const ArrayFields& array = fields(probe.get());
  numpy.fields_hold_ = array.data == data && array.dimension_count == 1 &&
                       array.dimensions[0] == 2 && array.strides[0] == sizeof(std::int32_t) &&
                       array.descr == numpy.int32_.get() && (array.flags & kAligned) != 0;
  return numpy;
}

const std::int32_t* Numpy::numbers(PyObject* array, Py_ssize_t& count) const {
  if (!fields_hold_ || reinterpret_cast<PyObject*>(Py_TYPE(array)) != array_type_.get())
    return nullptr;
  const ArrayFields& of = fields(array);
  if (of.dimension_count != 1 || of.descr != int32_.get() || (of.flags & kAligned) == 0 ||
      of.strides[0] != sizeof(std::int32_t))
    return nullptr;
  count = of.dimensions[0];
  return reinterpret_cast<const std::int32_t*>(of.data);
}

const std::int32_t* Column::first(const Numpy& numpy, PyObject* array, Py_ssize_t count) {
  Py_ssize_t has = 0;
  const std::int32_t* numbers = numpy.numbers(array, has);
  if (numbers == nullptr) {
    const Reference converted(PyObject_CallMethod(array, "astype", "s", "int32"));
    bytes_ =
        Reference(converted ? PyObject_CallMethod(converted.get(), "tobytes", nullptr) : nullptr);
    char* bytes = nullptr;
    if (!bytes_ || PyBytes_AsStringAndSize(bytes_.get(), &bytes, &has) != 0) return nullptr;
    has /= Py_ssize_t{sizeof(std::int32_t)};
    numbers = reinterpret_cast<const std::int32_t*>(bytes);  // aligned for every type
  }
  if (has >= count) return numbers;
  PyErr_Format(PyExc_ValueError, "a column of the batch has %zd numbers; it needs %zd", has, count);
  return nullptr;
}

}  // namespace moetrace
