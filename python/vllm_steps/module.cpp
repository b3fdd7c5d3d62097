// The Python module moetrace_steps, for the stable ABI: class Steps, which vLLM's adapter uses.
//
// An engine's caches are cold between two steps, so that the same work in Python, and through
// ctypes, takes two to three times as long.
#include <exception>
#include <memory>
#include <vector>

#include "producer/clock.hpp"
#include "python/vllm_steps/column.hpp"
#include "python/vllm_steps/reference.hpp"
#include "python/vllm_steps/steps.hpp"

namespace moetrace {
namespace {

// The names that are looked up; interned once, as the module is loaded.
struct Names {
  PyObject *scheduled_new_reqs, *finished_req_ids, *req_id, *prompt_token_ids, *prompt_embeds,
      *num_computed_tokens, *sampling_params, *max_tokens;
};
Names names;
PyObject* tracing_error;

struct Tracing {
  Steps steps;
  Reference handle;                              // a ctypes.c_void_p
  moetrace_producer* const* producer = nullptr;  // in `handle`; null once it has been closed
  Reference kept;                                // a list, to be cleared with each announcement
  Reference current_stream, device;              // current_stream(device): an address; or neither
  Reference ids;                                 // a list: the batch, as it was set
  // Who has come with the last schedule, in their order: most often they are the next batch's new
  // ones, in that order, and need not be looked up, which takes 1 us with cold caches.
  std::vector<std::pair<Reference, std::uint64_t>> come;
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

// Everybody will be looked up. An exception that there is stays.
void forget_batch(Tracing& tracing) {
  tracing.steps.set_batch({});
  PyList_SetSlice(tracing.ids.get(), 0, PY_SSIZE_T_MAX, nullptr);
  tracing.come.clear();
}

// Calls function(text) with a str's UTF-8. False, and an exception: it is none.
template <class Function>
bool with_text(PyObject* object, const Function& function) {
  const Reference bytes(PyUnicode_AsUTF8String(object));
  char* text = nullptr;
  Py_ssize_t size = 0;
  if (!bytes || PyBytes_AsStringAndSize(bytes.get(), &text, &size) != 0) return false;
  function(std::string_view(text, static_cast<std::size_t>(size)));
  return true;
}

// Calls function(item) for each, as long as it gives true. False, and an exception, if one gave
// false, or it can't be gone through.
template <class Function>
bool for_each(PyObject* items, const Function& function) {
  const Reference iterator(PyObject_GetIter(items));
  if (!iterator) return false;
  while (const Reference item{PyIter_Next(iterator.get())}) {
    if (!function(item.get())) return false;
  }
  return PyErr_Occurred() == nullptr;
}

// The attribute, or None where there is no such one; empty, and an exception, if that fails.
Reference optional_attribute(PyObject* object, PyObject* name) {
  Reference found(PyObject_GetAttr(object, name));
  if (found || PyErr_ExceptionMatches(PyExc_AttributeError) == 0) return found;
  PyErr_Clear();
  return Reference::to(Py_None);
}

// Answers false, and an exception, if the request's fields are not what they should be.
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
    tracing.come.emplace_back(Reference::to(id.get()), number);
  });
}

PyObject* follow(PyObject* self, PyObject* schedule) try {
  Tracing& tracing = of(self);
  const Reference come(PyObject_GetAttr(schedule, names.scheduled_new_reqs));
  const Py_ssize_t come_count = come ? PyObject_Size(come.get()) : -1;
  if (come_count < 0) return nullptr;
  const Reference gone(PyObject_GetAttr(schedule, names.finished_req_ids));
  const Py_ssize_t gone_count = gone ? PyObject_Size(gone.get()) : -1;
  if (gone_count < 0) return nullptr;
  if (come_count == 0 && gone_count == 0) Py_RETURN_NONE;
  const std::int64_t began_ns = monotonic_ns();
  tracing.come.clear();  // of a pass that was not announced; they may have gone
  // Others have gone before they came, and may come again.
  const bool ended = for_each(gone.get(), [&](PyObject* id) {
    return with_text(id,
                     [&](std::string_view text) { tracing.steps.end(*tracing.producer, text); });
  });
  if (!ended || !for_each(come.get(), [&](PyObject* request) { return begin(tracing, request); }))
    return nullptr;
  moetrace_add_cost(*tracing.producer, static_cast<std::uint64_t>(monotonic_ns() - began_ns), 0);
  Py_RETURN_NONE;
} catch (const std::exception& failure) {
  return failed(failure);
}

// The number of a request that `tracing.ids` doesn't have where it is now. kNobody, and an
// exception: there is no such one. `next`: who of those that came has not been placed yet.
std::uint64_t find(const Tracing& tracing, PyObject* id, std::size_t& next) {
  if (next < tracing.come.size() && id == tracing.come[next].first.get())
    return tracing.come[next++].second;
  std::uint64_t number = Steps::kNobody;
  if (!with_text(id, [&](std::string_view text) { number = tracing.steps.number_of(text); }))
    return Steps::kNobody;
  if (number == Steps::kNobody) PyErr_SetObject(PyExc_KeyError, id);
  return number;
}

// Goes through a batch that is another one, and touches, of `tracing.ids` and of the strings, only
// what has changed.
bool place_all(Tracing& tracing, PyObject* ids) {
  std::vector<std::uint64_t> numbers = tracing.steps.batch();
  const auto count = static_cast<std::size_t>(PyList_Size(ids));
  numbers.resize(count, Steps::kNobody);
  PyObject* const known = tracing.ids.get();
  std::size_t next = 0;
  for (std::size_t place = 0; place < count; ++place) {
    const auto at = static_cast<Py_ssize_t>(place);
    PyObject* const id = PyList_GetItem(ids, at);
    const bool is_new = at >= PyList_Size(known);
    if (!is_new && numbers[place] != Steps::kNobody) {
      // An engine of several processes makes new strings for each pass.
      const int same = PyObject_RichCompareBool(id, PyList_GetItem(known, at), Py_EQ);
      if (same < 0) return false;
      if (same == 1) continue;
    }
    numbers[place] = find(tracing, id, next);
    if (numbers[place] == Steps::kNobody) return false;
    Py_INCREF(id);
    if (is_new ? PyList_Append(known, Reference(id).get()) : PyList_SetItem(known, at, id))
      return false;
  }
  if (PyList_SetSlice(known, static_cast<Py_ssize_t>(count), PY_SSIZE_T_MAX, nullptr) != 0)
    return false;
  tracing.steps.set_batch(std::move(numbers));
  tracing.come.clear();
  return true;
}

// False, and an exception: `ids`, a list, is no batch.
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
    PyErr_SetString(PyExc_TypeError, "announce: ids is no list");
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
  // The announcement has joined what was not.
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
    "What the passes of one model runner announce: requests that come and go, and which rows are\n"
    "whose. speculative: a pass may feed tokens that are not kept. asynchronous: the next pass is\n"
    "enqueued before they are known: rows have their request, and no position. rows_known: else a\n"
    "GPU deals a pass's rows out to its requests, and they have neither.";
constexpr char kFollow[] =
    "follow($self, schedule, /)\n--\n\n"
    "The scheduler's output, before the pass, if there is one: requests come and go.";
constexpr char kAnnounce[] =
    "announce($self, ids, starts, firsts, /)\n--\n\n"
    "The pass that is enqueued next, in torch's current stream. ids: its requests, a list in the\n"
    "order of their rows; starts [at least n + 1]: the first row of each, and behind the last;\n"
    "firsts [at least n]: the position of each one's first token. Arrays of numpy's, int32, or\n"
    "what astype makes of them. TracingError: the GPU's hook has failed. KeyError: nobody has\n"
    "such an id.";
constexpr char kClose[] = "close($self, /)\n--\n\nEnds all requests.";

PyMethodDef methods[] = {{"follow", follow, METH_O, kFollow},
                         {"announce", announce, METH_VARARGS, kAnnounce},
                         {"close", close, METH_NOARGS, kClose},
                         {}};
PyGetSetDef properties[] = {
    {"live", live, nullptr, "Requests that have come and not gone.", nullptr},
    {"rows_known", rows_known, nullptr, "Else rows have no request.", nullptr},
    {"positions_known", positions_known, nullptr, "Else rows have no position.", nullptr},
    {"reads_in_place", reads_in_place, nullptr, "Numpy's arrays lie in memory as expected.",
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
  // Which library the linker has found.
  PyObject* const function = PyLong_FromVoidPtr(reinterpret_cast<void*>(&moetrace_request_begin));
  if (function == nullptr || PyModule_AddObject(module.get(), "request_begin", function) != 0)
    return nullptr;
  Py_INCREF(module.get());
  return module.get();
}
