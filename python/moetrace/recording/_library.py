"""libmoetrace.so: where it is, and its C API (producer/producer.h) for ctypes."""

from __future__ import annotations

import ctypes
import functools
import importlib.machinery
import importlib.util
import os
import pathlib
import struct
import tempfile
import types
from typing import Optional

from .._version import __version__
from ..errors import TracingError

UNKNOWN_POSITION = 0xFFFFFFFFFFFFFFFF  # MOETRACE_UNKNOWN_POSITION: null in the trace
UNKNOWN_TOKENS = 0xFFFFFFFF  # MOETRACE_UNKNOWN_TOKENS: null in the trace
ERROR_BYTES = 512  # the buffer for the line of moetrace_open

# moetrace_type, by its name in numpy and torch.
ID_TYPES = {"int16": 1, "int32": 2, "int64": 3, "uint32": 4}
WEIGHT_TYPES = {"float32": 16, "bfloat16": 17, "float16": 18}


class LayerMask(ctypes.Structure):
    """moetrace_layer_mask: bit l of words[l / 64] stands for layer l."""

    _fields_ = [("words", ctypes.c_uint64 * 4)]


class Span(ctypes.Structure):
    """moetrace_span."""

    _fields_ = [
        ("request", ctypes.c_uint64),
        ("first_position", ctypes.c_uint64),
        ("first_row", ctypes.c_uint32),
        ("rows", ctypes.c_uint32),
    ]


# enum moetrace_layer_flags: what is known. The bit above one of the first three is its value.
RENORMALIZED_KNOWN, BIASED_KNOWN, TABLE_KNOWN = 1 << 0, 1 << 2, 1 << 4
ZERO_EXPERTS_KNOWN, SCALING_KNOWN, GROUPS_KNOWN = 1 << 6, 1 << 7, 1 << 8


class LayerEntry(ctypes.Structure):
    """moetrace_layer_entry."""

    _fields_ = [
        ("experts", ctypes.c_uint32),
        ("zero_experts", ctypes.c_uint32),
        ("top_k", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("groups", ctypes.c_uint32),
        ("topk_groups", ctypes.c_uint32),
        ("scaling", ctypes.c_double),
        ("score", ctypes.c_char * 24),
        ("reserved", ctypes.c_uint8 * 8),
    ]


class Options(ctypes.Structure):
    """moetrace_options. tests/layout_test.py compares it with the header."""

    _fields_ = [
        ("size", ctypes.c_size_t),
        ("directory", ctypes.c_char_p),
        ("session", ctypes.c_char_p),
        ("ring_mb", ctypes.c_double),
        ("num_layers", ctypes.c_uint32),
        ("num_experts", ctypes.c_uint32),
        ("top_k", ctypes.c_uint32),
        ("moe_layers", ctypes.POINTER(LayerMask)),
        ("layers", ctypes.c_char_p),
        ("sample_every", ctypes.c_int64),
        ("model_id", ctypes.c_char_p),
        ("engine", ctypes.c_char_p),
        ("engine_version", ctypes.c_char_p),
        ("vllm_version", ctypes.c_char_p),
        ("torch_version", ctypes.c_char_p),
        ("device", ctypes.c_char_p),
        ("has_seed", ctypes.c_int),
        ("seed", ctypes.c_int64),
        ("router_score", ctypes.c_char_p),
        ("router_renormalized", ctypes.c_int),
        ("router_scaling", ctypes.c_double),
        ("rank", ctypes.c_uint32),
        ("world_size", ctypes.c_uint32),
        ("tp_rank", ctypes.c_uint32),
        ("dp_rank", ctypes.c_uint32),
        ("pp_rank", ctypes.c_uint32),
        ("ep_rank", ctypes.c_uint32),
        ("cuda_device", ctypes.c_int32),
        ("router_biased", ctypes.c_int),
        ("router_groups", ctypes.c_uint32),
        ("router_topk_groups", ctypes.c_uint32),
        ("notes", ctypes.c_char_p),
        ("engine_id", ctypes.c_char_p),
        ("layer_table", ctypes.POINTER(LayerEntry)),
        ("largest_step", ctypes.c_uint64),
    ]


class Totals(ctypes.Structure):
    """moetrace_totals."""

    _fields_ = [
        ("size", ctypes.c_size_t),
        ("steps", ctypes.c_uint64),
        ("attempted", ctypes.c_uint64),
        ("recorded", ctypes.c_uint64),
        ("dropped", ctypes.c_uint64),
        ("announce_ns", ctypes.c_uint64),
        ("hook_ns", ctypes.c_uint64),
    ]


_P, _U32, _U64, _INT, _SIZE, _TEXT = (
    ctypes.c_void_p,
    ctypes.c_uint32,
    ctypes.c_uint64,
    ctypes.c_int,
    ctypes.c_size_t,
    ctypes.c_char_p,
)

# These may take milliseconds, so that they release the interpreter's lock. The others take less
# time than releasing and taking it.
_SLOW = {"open", "close"}

# Result and arguments of each function of the API, by its name without the prefix.
SIGNATURES = {
    "options_init": (None, [ctypes.POINTER(Options), _SIZE]),
    "enabled": (_INT, []),
    "open": (_P, [ctypes.POINTER(Options), _TEXT, _SIZE]),
    "request_begin": (_U64, [_P, _TEXT, _U32, _U32]),
    "request_end": (None, [_P, _U64, _U32, _TEXT]),
    "step_begin": (_INT, [_P, _U32, _P, _SIZE]),
    "step_abort": (None, [_P]),
    "record": (None, [_P, _U32, _P, _INT, _P, _INT, _U32]),
    "step_begin_cuda": (_INT, [_P, _P, _U32, _P, _SIZE]),
    "step_abort_cuda": (None, [_P, _P]),
    "record_cuda": (None, [_P, _P, _U32, _P, _INT, _P, _INT, _U32]),
    "record_cuda_deferred": (None, [_P, _P, _U32, _P, _INT, _P, _INT, _U32]),
    "record_cuda_in_line": (None, [_P, _P, _U32, _P, _INT, _P, _INT, _U32]),
    "join": (None, [_P, _P]),
    "failure": (_TEXT, [_P]),
    "get_totals": (None, [_P, ctypes.POINTER(Totals)]),
    "add_cost": (None, [_P, _U64, _U64]),
    "trace_id": (_TEXT, [_P]),
    "summary": (_TEXT, [_P]),
    "no_collector": (_TEXT, [_P]),
    "close": (None, [_P]),
}


def candidates() -> list[str]:
    """Where the library may be, best first: MOETRACE_LIBRARY, beside the package's modules (the
    wheel's), the system's."""
    beside = pathlib.Path(__file__).parents[1] / "libmoetrace.so"
    named = os.environ.get("MOETRACE_LIBRARY")
    major = __version__.partition(".")[0]  # SOVERSION of producer/install.cmake
    system = f"libmoetrace.so.{major}" if major.isdigit() else "libmoetrace.so"
    return [*([named] if named else []), *([str(beside)] if beside.exists() else []), system]


@functools.cache
def load() -> ctypes.CDLL:
    """The library with its functions declared; loaded once. Raises TracingError if it is missing or
    lacks a function."""
    path = candidates()[0]
    try:
        library, quick = ctypes.CDLL(path), ctypes.PyDLL(path)
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(library if name in _SLOW else quick, f"moetrace_{name}")
            function.restype, function.argtypes = result, arguments
            setattr(library, f"moetrace_{name}", function)
    except (OSError, AttributeError) as error:
        raise TracingError(
            f"libmoetrace: {error}; install the package from its wheel, or set MOETRACE_LIBRARY to "
            "the path of libmoetrace.so"
        ) from None
    return library


def mapped_file(name: str) -> Optional[str]:
    """The path of a file in this process's memory whose name begins with `name`."""
    with open("/proc/self/maps") as maps:
        for line in maps:
            if f"/{name}" in line:
                return line.split(maxsplit=5)[5].strip()
    return None


def loaded_path() -> str:
    """The file of the loaded library. Raises TracingError if it has another name."""
    load()
    path = mapped_file("libmoetrace.so")
    if path is None:
        raise TracingError("the loaded library is not called libmoetrace.so; rename it")
    return path


def default_ring_directory() -> str:
    """Where rings are made if an engine names no directory: as default_ring_directory of
    shm/segment_files.cpp."""
    if os.environ.get("MOETRACE_DIR"):
        return os.environ["MOETRACE_DIR"]
    service = "/run/moetrace"
    return service if os.access(service, os.W_OK | os.X_OK) else "/dev/shm"


def abi() -> tuple[int, int]:
    """The ABI (major, minor) of the rings that the library makes: that of a small ring in a folder
    which is removed at once. Raises TracingError if the library can't make one."""
    library = load()
    try:
        return _abi_of(library)
    except OSError as error:
        raise TracingError(f"libmoetrace: a ring can't be tried: {error}; set TMPDIR") from None


def _abi_of(library: ctypes.CDLL) -> tuple[int, int]:
    with tempfile.TemporaryDirectory(prefix="moetrace-abi.") as folder:
        options, why = Options(), ctypes.create_string_buffer(ERROR_BYTES)
        library.moetrace_options_init(ctypes.byref(options), ctypes.sizeof(options))
        options.directory, options.session = os.fsencode(folder), b"abi"
        options.num_layers = options.num_experts = options.top_k = 1
        options.layers, options.sample_every, options.ring_mb = b"all", 1, 0.0625
        producer = library.moetrace_open(ctypes.byref(options), why, len(why))
        if not producer:
            raise TracingError(why.value.decode(errors="replace"))
        try:
            (ring,) = pathlib.Path(folder).glob("*.ring")
            with open(ring, "rb") as file:
                header = file.read(12)
        finally:
            library.moetrace_close(producer)
    return struct.unpack_from("<HH", header, 8)  # moetrace_ring_header: abi_major, abi_minor


@functools.cache
def load_compiled(name: str) -> types.ModuleType:
    """The compiled module `name` of this package, which lies beside the library and calls it.
    Raises TracingError if it can't be loaded."""
    library = load()
    try:
        path = pathlib.Path(loaded_path()).with_name(f"{name}.abi3.so")
        loader = importlib.machinery.ExtensionFileLoader(name, str(path))
        spec = importlib.util.spec_from_file_location(name, path, loader=loader)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
    except (ImportError, OSError, TracingError) as error:
        raise TracingError(
            f"{name}.abi3.so: {' '.join(str(error).split())}; install the package from its wheel, "
            "or build with -DMOETRACE_PYTHON=ON"
        ) from None
    if module.request_begin != ctypes.cast(library.moetrace_request_begin, ctypes.c_void_p).value:
        raise TracingError(f"{path}: this process has loaded two libmoetrace; load only one")
    return module
