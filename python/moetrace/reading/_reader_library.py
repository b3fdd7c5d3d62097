"""libmoetrace_reader.so: where it is, and its C API (trace/reader.h) as ctypes sees it."""

from __future__ import annotations

import ctypes
import functools
import os
import pathlib
from typing import Any

from ..errors import ReadError

ALL = -2  # MOETRACE_READER_ALL
# MOETRACE_READER_…: kinds of lines, causes of a loss, statuses of an end, reasons of a control.
STEP, REQUEST, REQUEST_END, LOSS, TORN, BASE, CONTROL, END = (1 << bit for bit in range(8))
RING_FULL, EVENT_RING_FULL = 1, 2
CLOSED, PRODUCER_DIED, CONTINUED, BAD_SEGMENT = 1, 2, 3, 4
MAX_TOTAL_SIZE = 1
ERROR_BYTES = 512  # room for the line of moetrace_reader_open and moetrace_reader_unpack

_I32, _U32, _I64, _U64, _SIZE, _P = (
    ctypes.c_int32,
    ctypes.c_uint32,
    ctypes.c_int64,
    ctypes.c_uint64,
    ctypes.c_size_t,
    ctypes.c_void_p,
)


class Place(ctypes.Structure):
    """moetrace_reader_place."""

    _fields_ = [("byte", _U64), ("line", _U64)]


class Rows(ctypes.Structure):
    """moetrace_reader_rows."""

    _fields_ = [
        ("size", _SIZE),
        ("capacity", _SIZE),
        ("count", _SIZE),
        ("request", _P),
        ("step", _P),
        ("token_idx", _P),
        ("seq", _P),
        ("layer", _P),
        ("ids", _P),
        ("weights", _P),
    ]


class Info(ctypes.Structure):
    """moetrace_reader_info."""

    _fields_ = [
        ("size", _SIZE),
        ("top_k", _U32),
        ("num_experts", _U32),
        ("num_layers", _U32),
        ("plain", _U32),
        ("requests", _U64),
    ]


class Request(ctypes.Structure):
    """moetrace_reader_request."""

    _fields_ = [
        ("size", _SIZE),
        ("number", _I64),
        ("req_id", _P),
        ("req_id_bytes", _SIZE),
        ("prompt_tokens", _I64),
        ("cached_tokens", _I64),
        ("generated_tokens", _I64),
        ("status", _P),
        ("status_bytes", _SIZE),
        ("rows", _I64),
        ("positions", _I64),
        ("first", Place),
        ("end_byte", _U64),
    ]


class Line(ctypes.Structure):
    """moetrace_reader_line."""

    _fields_ = [
        ("kind", _U32),
        ("code", _I32),
        ("enabled", _I32),
        ("reserved", _I32),
        ("place", Place),
        *(
            (name, _I64)
            for name in (
                "step",
                "rows",
                "layers",
                "time_ns",
                "seq",
                "event",
                "attempted",
                "delivered",
                "filtered",
                "dropped",
                "torn",
                "event_lost",
                "open",
                "part",
                "count",
                "request",
                "prompt_tokens",
                "cached_tokens",
                "generated_tokens",
                "sample_every",
                "from_step",
                "announce_ns",
                "hook_ns",
            )
        ),
        ("layer_mask", _U64 * 4),
        ("ring_slots", _I64),
        ("high_water", _I64),
    ]


class Lines(ctypes.Structure):
    """moetrace_reader_lines."""

    _fields_ = [
        ("size", _SIZE),
        ("line_size", _SIZE),
        ("capacity", _SIZE),
        ("count", _SIZE),
        ("lines", _P),
        ("kinds", _U32),
    ]


class Buffer:
    """Room that the library fills: `struct`, a Rows or a Lines, says how much there is."""

    struct: Any

    @property
    def count(self) -> int:
        return self.struct.count

    @property
    def full(self) -> bool:
        return self.struct.count == self.struct.capacity


# Result and arguments of each function of the API, without the prefix.
SIGNATURES = {
    "checksum": (_U64, [_P, _SIZE]),
    "begin": (_P, [_U32]),
    "open": (_P, [ctypes.c_char_p, _SIZE, _U32, ctypes.c_char_p, _SIZE]),
    "close": (None, [_P]),
    "read": (_I64, [_P, _P, _SIZE, ctypes.POINTER(Place), ctypes.POINTER(Rows), _I64]),
    "read_last": (_I64, [_P, _P, _SIZE, ctypes.POINTER(Place), ctypes.POINTER(Rows), _I64]),
    "read_lines": (
        _I64,
        [_P, _P, _SIZE, ctypes.POINTER(Place), ctypes.POINTER(Lines), ctypes.c_int],
    ),
    "error": (ctypes.c_char_p, [_P]),
    "what_to_try": (ctypes.c_char_p, [_P]),
    "meta": (_P, [_P, ctypes.POINTER(_SIZE)]),
    "counted": (Place, [_P]),
    "get_info": (None, [_P, ctypes.POINTER(Info)]),
    "get_request": (ctypes.c_int, [_P, _U64, ctypes.POINTER(Request)]),
    "get_counts": (ctypes.c_int, [_P, _U32, _P]),
    "end": (_P, [_P, ctypes.POINTER(_SIZE)]),
    "is_batches": (ctypes.c_int, [ctypes.c_char_p, _SIZE]),
    "open_batches": (_P, [_P, ctypes.c_char_p, ctypes.c_int, _U64, ctypes.c_char_p, _SIZE]),
    "read_batches": (_I64, [_P, _P, ctypes.POINTER(Rows), _I64]),
    "counted_batches": (_U64, [_P]),
    "close_batches": (None, [_P]),
    "read_message": (_I64, [_P, ctypes.c_char_p, _SIZE, _I64, ctypes.POINTER(Rows)]),
    "is_packed": (ctypes.c_int, [ctypes.c_char_p, _SIZE]),
    "unpack": (_P, [ctypes.c_int, ctypes.c_char_p, _SIZE]),
    "unpack_read": (_I64, [_P, _P, _SIZE, ctypes.POINTER(ctypes.c_int)]),
    "unpack_error": (ctypes.c_char_p, [_P]),
    "unpack_close": (None, [_P]),
}


@functools.cache
def load() -> ctypes.CDLL:
    """The library, its functions declared; loaded once, from MOETRACE_READER_LIBRARY, else from
    beside this file (the wheel's). ReadError if it is in neither place."""
    path = os.environ.get("MOETRACE_READER_LIBRARY") or str(
        pathlib.Path(__file__).parents[1] / "libmoetrace_reader.so"
    )
    try:
        library = ctypes.CDLL(path)
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(library, f"moetrace_reader_{name}")
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise ReadError(
            f"libmoetrace_reader: {error}; "
            "install the package from its wheel, "
            "or set MOETRACE_READER_LIBRARY to the path of libmoetrace_reader.so"
        ) from None
    return library


@functools.cache
def numpy():
    """The module; recording does without. ReadError if it is not installed."""
    try:
        import numpy as module
    except ImportError:
        raise ReadError(
            "moetrace: reading traces needs numpy, which is not installed; pip install numpy"
        ) from None
    return module
