// The Python module moetrace_steps, for the stable ABI: class Steps, which the vLLM adapter uses.
//
// It is compiled because an engine's caches are cold between two steps: the same work in Python,
// and through ctypes, takes two to three times as long.
#include <exception>
#include <memory>
#include <vector>

#include "producer/clock.hpp"
#include "python/vllm_steps/column.hpp"
#include "python/vllm_steps/reference.hpp"
#include "python/vllm_steps/steps.hpp"

namespace moetrace {
namespace {

// Attribute names, interned once when the module is loaded.
struct Names {
  PyObject *scheduled_new_reqs, *finished_req_ids, *req_id, *prompt_token_ids, *prompt_embeds,
      *num_computed_tokens, *sampling_params, *max_tokens;
};
Names names;
PyObject* tracing_error;

struct Tracing {
  Steps steps;
  Reference handle;                              // a ctypes.c_void_p
  moetrace_producer* const* producer = nullptr;  // in `handle`; null after the producer's close
  Reference kept;                                // a list, cleared with each announcement
  Reference current_stream, device;              // current_stream(device): an address; or empty
  Reference ids;                                 // a list: the batch as set
  // The new requests of the last schedule, in order. Most often they are the next batch's new
  // requests, in that order, which saves their lookup: 1 us with cold caches.
  std::vector<std::pair<Reference, std::uint64_t>> begun;
  Numpy numpy;
  Column starts, firsts;
};

struct Object {
  PyObject_HEAD;
  Tracing* tracing;
};

PyObject* failed(const std::exception& failure) {
  PyErr_SetString(PyExc_RuntimeError, failure.what());
  return nullptr;
}

Tracing& of(PyObject* self) {
  return *reinterpret_cast<Object*>(self)->tracing;
}

// The next batch looks every request up. Keeps a pending exception.
void forget_batch(Tracing& tracing) {
  tracing.steps.set_batch({});
  PyList_SetSlice(tracing.ids.get(), 0, PY_SSIZE_T_MAX, nullptr);
  tracing.begun.clear();
}

// Calls function(text) with the UTF-8 of a str. False, and an exception, for another object.
template <class Function>
bool with_text(PyObject* object, const Function& function) {
  const Reference bytes(PyUnicode_AsUTF8String(object));
  char* text = nullptr;
  Py_ssize_t size = 0;
  if (!bytes || PyBytes_AsStringAndSize(bytes.get(), &text, &size) != 0) return false;
  function(std::string_view(text, static_cast<std::size_t>(size)));
  return true;
}

// Calls function(item) for each item, until one returns false. False, and an exception, if one did,
// or if `items` can't be iterated.
template <class Function>
bool for_each(PyObject* items, const Function& function) {
  const Reference iterator(PyObject_GetIter(items));
  if (!iterator) return false;
  while (const Reference item{PyIter_Next(iterator.get())}) {
    if (!function(item.get())) return false;
  }
  return PyErr_Occurred() == nullptr;
}

// The attribute, or None if it is missing. Empty, and an exception, for another failure.
Reference optional_attribute(PyObject* object, PyObject* name) {
  Reference found(PyObject_GetAttr(object, name));
  if (found || PyErr_ExceptionMatches(PyExc_AttributeError) == 0) return found;
  PyErr_Clear();
  return Reference::to(Py_None);
}

// False, and an exception, if a field of the request is missing or of another type.
bool begin(Tracing& tracing, PyObject* request) {
  const Reference id(PyObject_GetAttr(request, names.req_id));
  if (!id) return false;
  Reference prompt(PyObject_GetAttr(request, names.prompt_token_ids));
  if (prompt.is_none()) prompt = optional_attribute(request, names.prompt_embeds);
  if (!prompt) return false;
  const Reference cached(PyObject_GetAttr(request, names.num_computed_tokens));
  if (!cached) return false;
  const Reference sampling(PyObject_GetAttr(request, names.sampling_params));
  if (!sampling) return false;
  const Reference most = optional_attribute(sampling.get(), names.max_tokens);
  if (!most) return false;

  std::optional<std::uint32_t> prompt_tokens;
  if (!prompt.is_none()) {
    const Py_ssize_t size = PyObject_Size(prompt.get());
    if (size < 0) return false;
    prompt_tokens = static_cast<std::uint32_t>(size);
  }
  const auto cached_tokens = static_cast<std::uint32_t>(PyLong_AsLongLong(cached.get()));
  if (PyErr_Occurred() != nullptr) return false;
  std::optional<std::int64_t> most_tokens;
  if (!most.is_none()) most_tokens = PyLong_AsLongLong(most.get());
  if (PyErr_Occurred() != nullptr) return false;
  return with_text(id.get(), [&](std::string_view text) {
    const std::uint64_t number =
        tracing.steps.begin(*tracing.producer, text, prompt_tokens, cached_tokens, most_tokens);
    tracing.begun.emplace_back(Reference::to(id.get()), number);
  });
}

PyObject* follow(PyObject* self, PyObject* schedule) try {
  Tracing& tracing = of(self);
  const Reference begun(PyObject_GetAttr(schedule, names.scheduled_new_reqs));
  const Py_ssize_t new_count = begun ? PyObject_Size(begun.get()) : -1;
  if (new_count < 0) return nullptr;
  const Reference ended_ids(PyObject_GetAttr(schedule, names.finished_req_ids));
  const Py_ssize_t ended_count = ended_ids ? PyObject_Size(ended_ids.get()) : -1;
  if (ended_count < 0) return nullptr;
  if (new_count == 0 && ended_count == 0) Py_RETURN_NONE;
  const std::int64_t began_ns = monotonic_ns();
  tracing.begun.clear();  // of a pass that was not announced; they may have ended
  // Ends first: a request that was cancelled while it waited may be followed by a new one with the
  // same id, in one schedule.
  const bool ended = for_each(ended_ids.get(), [&](PyObject* id) {
    return with_text(id,
                     [&](std::string_view text) { tracing.steps.end(*tracing.producer, text); });
  });
  if (!ended || !for_each(begun.get(), [&](PyObject* request) { return begin(tracing, request); }))
    return nullptr;
  moetrace_add_cost(*tracing.producer, static_cast<std::uint64_t>(monotonic_ns() - began_ns), 0);
  Py_RETURN_NONE;
} catch (const std::exception& failure) {
  return failed(failure);
}

// The number of a request that `tracing.ids` does not have in its present place. kNoRequest, and an
// exception, for an unknown id. `next`: the first of `tracing.begun` that has no place yet.
std::uint64_t find(const Tracing& tracing, PyObject* id, std::size_t& next) {
  if (next < tracing.begun.size() && id == tracing.begun[next].first.get())
    return tracing.begun[next++].second;
  std::uint64_t number = Steps::kNoRequest;
  if (!with_text(id, [&](std::string_view text) { number = tracing.steps.number_of(text); }))
    return Steps::kNoRequest;
  if (number == Steps::kNoRequest) PyErr_SetObject(PyExc_KeyError, id);
  return number;
}

// Looks up a batch that differs from the last one. Touches only those entries of `tracing.ids`, and
// those strings, that have changed.
bool place_all(Tracing& tracing, PyObject* ids) {
  std::vector<std::uint64_t> numbers = tracing.steps.batch();
  const auto count = static_cast<std::size_t>(PyList_Size(ids));
  numbers.resize(count, Steps::kNoRequest);
  PyObject* const known = tracing.ids.get();
  std::size_t next = 0;
  for (std::size_t place = 0; place < count; ++place) {
    const auto at = static_cast<Py_ssize_t>(place);
    PyObject* const id = PyList_GetItem(ids, at);
    const bool is_new = at >= PyList_Size(known);
    if (!is_new && numbers[place] != Steps::kNoRequest) {
      // An engine with several processes makes new strings for each pass.
      const int same = PyObject_RichCompareBool(id, PyList_GetItem(known, at), Py_EQ);
      if (same < 0) return false;
      if (same == 1) continue;
    }
    numbers[place] = find(tracing, id, next);
    if (numbers[place] == Steps::kNoRequest) return false;
    Py_INCREF(id);
    if (is_new ? PyList_Append(known, Reference(id).get()) : PyList_SetItem(known, at, id))
      return false;
  }
  if (PyList_SetSlice(known, static_cast<Py_ssize_t>(count), PY_SSIZE_T_MAX, nullptr) != 0)
    return false;
  tracing.steps.set_batch(std::move(numbers));
  tracing.begun.clear();
  return true;
}

// False, and an exception, if the list `ids` has an unknown request.
bool set_batch(Tracing& tracing, PyObject* ids) {
  if (!tracing.steps.batch_has_gaps()) {
    const int same = PyObject_RichCompareBool(ids, tracing.ids.get(), Py_EQ);
    if (same != 0) return same == 1;
  }
  if (place_all(tracing, ids)) return true;
  forget_batch(tracing);
  return false;
}

PyObject* announce(PyObject* self, PyObject* arguments) try {
  const std::int64_t began_ns = monotonic_ns();
  Tracing& tracing = of(self);
  PyObject *ids = nullptr, *starts = nullptr, *firsts = nullptr;
  if (PyArg_UnpackTuple(arguments, "announce", 3, 3, &ids, &starts, &firsts) == 0) return nullptr;
  if (PyList_Check(ids) == 0) {
    PyErr_SetString(PyExc_TypeError, "announce: ids: expected a list");
    return nullptr;
  }
  if (!set_batch(tracing, ids)) return nullptr;
  moetrace_cuda_stream stream = nullptr;
  if (tracing.current_stream) {
    const Reference address(
        PyObject_CallFunctionObjArgs(tracing.current_stream.get(), tracing.device.get(), nullptr));
    if (!address) return nullptr;
    stream = static_cast<moetrace_cuda_stream>(PyLong_AsVoidPtr(address.get()));
    if (PyErr_Occurred() != nullptr) return nullptr;
  }
  const Py_ssize_t count = PyList_Size(ids);
  const std::int32_t* const rows = tracing.starts.first(tracing.numpy, starts, count + 1);
  const std::int32_t* const positions =
      rows ? tracing.firsts.first(tracing.numpy, firsts, count) : nullptr;
  if (positions == nullptr) return nullptr;
  const bool recorded =
      tracing.steps.announce(*tracing.producer, stream, rows, positions, began_ns);
  // The announcement has joined all branches.
  if (PyList_Size(tracing.kept.get()) > 0 &&
      PyList_SetSlice(tracing.kept.get(), 0, PY_SSIZE_T_MAX, nullptr) != 0)
    return nullptr;
  if (!recorded) {
    if (const char* why = moetrace_failure(*tracing.producer)) {
      PyErr_SetString(tracing_error, why);
      return nullptr;
    }
  }
  Py_RETURN_NONE;
} catch (const std::exception& failure) {
  return failed(failure);
}

PyObject* close(PyObject* self, PyObject*) try {
  Tracing& tracing = of(self);
  tracing.steps.end_all(*tracing.producer);
  forget_batch(tracing);
  Py_RETURN_NONE;
} catch (const std::exception& failure) {
  return failed(failure);
}

PyObject* live(PyObject* self, void*) {
  return PyLong_FromSize_t(of(self).steps.live());
}

PyObject* reads_in_place(PyObject* self, void*) {
  return PyBool_FromLong(of(self).numpy.reads_in_place() ? 1 : 0);
}

PyObject* positions_known(PyObject* self, void*) {
  return PyBool_FromLong(of(self).steps.positions_known() ? 1 : 0);
}

PyObject* rows_known(PyObject* self, void*) {
  return PyBool_FromLong(of(self).steps.rows_known() ? 1 : 0);
}

PyObject* make(PyTypeObject* type, PyObject* arguments, PyObject* keywords) try {
  const char* kNames[] = {"producer", "speculative", "asynchronous", "rows_known", nullptr};
  PyObject* producer = nullptr;
  int speculative = 0, asynchronous = 0, rows_known = 1;
  if (PyArg_ParseTupleAndKeywords(arguments, keywords, "Opp|p", const_cast<char**>(kNames),
                                  &producer, &speculative, &asynchronous, &rows_known) == 0)
    return nullptr;
  const Reference lent(PyObject_CallMethod(producer, "_lend", nullptr));
  PyObject *handle = nullptr, *address = nullptr, *kept = nullptr, *stream = nullptr,
           *device = nullptr;
  if (!lent || PyArg_ParseTuple(lent.get(), "OO!O!OO", &handle, &PyLong_Type, &address,
                                &PyList_Type, &kept, &stream, &device) == 0)
    return nullptr;
  auto tracing = std::make_unique<Tracing>(
      Tracing{Steps(speculative != 0, asynchronous != 0, rows_known != 0)});
  tracing->numpy = Numpy::load();
  tracing->ids = Reference(PyList_New(0));
  if (!tracing->numpy || !tracing->ids) return nullptr;
  tracing->handle = Reference::to(handle);
  tracing->producer = static_cast<moetrace_producer* const*>(PyLong_AsVoidPtr(address));
  tracing->kept = Reference::to(kept);
  if (stream != Py_None) {
    tracing->current_stream = Reference::to(stream);
    tracing->device = Reference::to(device);
  }
  const auto allocate = reinterpret_cast<allocfunc>(PyType_GetSlot(type, Py_tp_alloc));
  PyObject* const self = allocate(type, 0);
  if (self != nullptr) reinterpret_cast<Object*>(self)->tracing = tracing.release();
  return self;
} catch (const std::exception& failure) {
  return failed(failure);
}

void destroy(PyObject* self) {
  PyTypeObject* const type = Py_TYPE(self);
  delete reinterpret_cast<Object*>(self)->tracing;
  reinterpret_cast<freefunc>(PyType_GetSlot(type, Py_tp_free))(self);
  Py_DECREF(type);
}

constexpr char kClass[] =
    "Steps(producer, speculative, asynchronous, rows_known=True)\n--\n\n"
    "What the passes of one model runner announce: new and finished requests, and which rows are\n"
    "whose. speculative: a pass may feed tokens that are then rejected. asynchronous: the next "
    "pass\n"
    "is enqueued before these are known, so that rows have a request but no position. rows_known\n"
    "False: the GPU assigns a pass's rows to its requests, so that rows have neither.";
constexpr char kFollow[] =
    "follow($self, schedule, /)\n--\n\n"
    "Takes new and finished requests from the scheduler's output. Call it before the pass, if\n"
    "one follows.";
constexpr char kAnnounce[] =
    "announce($self, ids, starts, firsts, /)\n--\n\n"
    "Announces the pass that is enqueued next in torch's current stream. ids: its n requests, a\n"
    "list in the order of their rows. starts [at least n + 1]: the first row of each, then the\n"
    "number of rows. firsts [at least n]: the position of each request's first token. Both are\n"
    "numpy arrays; types other than int32 are converted. Raises TracingError if the GPU's hook\n"
    "has failed, and KeyError for an unknown request id.";
constexpr char kClose[] = "close($self, /)\n--\n\nEnds all requests.";

PyMethodDef methods[] = {{"follow", follow, METH_O, kFollow},
                         {"announce", announce, METH_VARARGS, kAnnounce},
                         {"close", close, METH_NOARGS, kClose},
                         {}};
PyGetSetDef properties[] = {
    {"live", live, nullptr, "The number of live requests.", nullptr},
    {"rows_known", rows_known, nullptr, "False: rows have no request.", nullptr},
    {"positions_known", positions_known, nullptr, "False: rows have no position.", nullptr},
    {"reads_in_place", reads_in_place, nullptr, "Whether numpy arrays are laid out as expected.",
     nullptr},
    {}};
PyType_Slot slots[] = {{Py_tp_doc, const_cast<char*>(kClass)},
                       {Py_tp_new, reinterpret_cast<void*>(make)},
                       {Py_tp_dealloc, reinterpret_cast<void*>(destroy)},
                       {Py_tp_methods, methods},
                       {Py_tp_getset, properties},
                       {}};
PyType_Spec type{"moetrace_steps.Steps", sizeof(Object), 0, Py_TPFLAGS_DEFAULT, slots};
PyModuleDef definition{PyModuleDef_HEAD_INIT, "moetrace_steps", nullptr, -1, nullptr};

bool find_names() {
  const std::pair<PyObject**, const char*> all[] = {
      {&names.scheduled_new_reqs, "scheduled_new_reqs"},
      {&names.finished_req_ids, "finished_req_ids"},
      {&names.req_id, "req_id"},
      {&names.prompt_token_ids, "prompt_token_ids"},
      {&names.prompt_embeds, "prompt_embeds"},
      {&names.num_computed_tokens, "num_computed_tokens"},
      {&names.sampling_params, "sampling_params"},
      {&names.max_tokens, "max_tokens"}};
  for (const auto& [name, text] : all) {
    *name = PyUnicode_InternFromString(text);
    if (*name == nullptr) return false;
  }
  const Reference errors(PyImport_ImportModule("moetrace.errors"));
  tracing_error = errors ? PyObject_GetAttrString(errors.get(), "TracingError") : nullptr;
  return tracing_error != nullptr;
}

}  // namespace
}  // namespace moetrace

PyMODINIT_FUNC PyInit_moetrace_steps() {
  if (!moetrace::find_names()) return nullptr;
  moetrace::Reference module(PyModule_Create(&moetrace::definition));
  PyObject* const steps = module ? PyType_FromSpec(&moetrace::type) : nullptr;
  if (steps == nullptr || PyModule_AddObject(module.get(), "Steps", steps) != 0) return nullptr;
  // Tells which library the linker has found.
  PyObject* const function = PyLong_FromVoidPtr(reinterpret_cast<void*>(&moetrace_request_begin));
  if (function == nullptr || PyModule_AddObject(module.get(), "request_begin", function) != 0)
    return nullptr;
  Py_INCREF(module.get());
  return module.get();
}
