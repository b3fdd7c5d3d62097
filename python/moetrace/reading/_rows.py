"""Rows of a trace as numpy columns, and the library that makes them of the trace's text."""

from __future__ import annotations

import ctypes
import json
import os
import threading
from typing import Any, NamedTuple, Optional, Union

from ..errors import ReadError
from . import _reader_library
from ._lines import LineBuffer
from ._reader_library import numpy


class RequestInfo(NamedTuple):
    """A request of a trace. None: the trace does not say, or not yet."""

    req_id: Optional[str]
    number: (
        int  # never used again in its trace; in a plain log, which has none: names in their order
    )
    prompt_tokens: Optional[int]
    cached_tokens: Optional[int]
    generated_tokens: Optional[int]
    status: Optional[str]
    # In the trace, over all layers. None: they are in another file, which is not there.
    rows: Optional[int]


class Batch:
    """Rows of a trace, in its order; a row is a token in a layer. Columns are numpy arrays of one
    length:

    request: int64, the request's number; -1: none. step: int64, the forward pass. token_idx: int64,
    the token's position in its request. layer: int16. seq: int64, the row's number in the trace.
    topk_ids: int32 [rows, top_k], -1: none. topk_weights: float32 [rows, top_k], NaN: none. Rows of
    a layer with a smaller top-k fill the first places. What a row does not give is -1; plain logs
    have no step and no seq.

    trace: the `Trace` or `LiveTrace` that the rows are of.
    """

    COLUMNS = {
        "request": "int64",
        "step": "int64",
        "token_idx": "int64",
        "layer": "int16",
        "seq": "int64",
    }

    def __init__(self, trace: Any, columns: dict[str, Any]):
        self.trace = trace
        self.request, self.step, self.token_idx, self.layer, self.seq = (
            columns[name] for name in Batch.COLUMNS
        )
        self.topk_ids, self.topk_weights = columns["topk_ids"], columns["topk_weights"]

    def __len__(self) -> int:
        return len(self.request)

    def __repr__(self) -> str:
        parts = [
            f"{len(self)} rows of top-{self.topk_ids.shape[1]}",
            extent("requests", self.request),
            extent("steps", self.step),
            extent("layers", self.layer),
            extent("seq", self.seq),
        ]
        return f"<moetrace.Batch: {', '.join(filter(None, parts))}>"

    def columns(self) -> dict[str, Any]:
        """All of them, by name."""
        return {name: getattr(self, name) for name in (*Batch.COLUMNS, "topk_ids", "topk_weights")}

    @property
    def req_id(self) -> Any:
        """The requests' names: an array of str, or None, made of `request` at each use."""
        numbers, where = numpy().unique(self.request, return_inverse=True)
        names = numpy().empty(len(numbers), object)
        names[:] = [self.trace.req_id_of(int(number)) for number in numbers]
        return names[where]

    def to_pandas(self) -> Any:
        """A DataFrame: req_id (categorical), the columns, and expert_0, weight_0, expert_1, … for
        each of the top k."""
        pandas = _module("pandas", "to_pandas")
        table = {
            "req_id": pandas.Categorical(self.req_id),
            **{name: getattr(self, name) for name in Batch.COLUMNS},
        }
        for k in range(self.topk_ids.shape[1]):
            table[f"expert_{k}"], table[f"weight_{k}"] = (
                self.topk_ids[:, k],
                self.topk_weights[:, k],
            )
        return pandas.DataFrame(table)

    def to_arrow(self) -> Any:
        """A pyarrow Table: req_id (dictionary), the columns, and topk_ids and topk_weights as lists
        of fixed size."""
        arrow = _module("pyarrow", "to_arrow")
        k = self.topk_ids.shape[1]
        lists = {
            name: arrow.FixedSizeListArray.from_arrays(
                arrow.array(getattr(self, name).reshape(-1)), k
            )
            for name in ("topk_ids", "topk_weights")
        }
        names = arrow.array(self.req_id, arrow.string()).dictionary_encode()
        return arrow.table(
            {"req_id": names, **{name: getattr(self, name) for name in Batch.COLUMNS}, **lists}
        )


def extent(name: str, numbers: Any) -> str:
    """The least and the greatest, without -1, as in "layers 0-23"; "" without any."""
    numbers = numbers[numbers >= 0]
    if len(numbers) == 0:
        return ""
    least, greatest = numbers.min(), numbers.max()
    return f"{name} {least}" if least == greatest else f"{name} {least}-{greatest}"


def concatenate(trace: Any, top_k: int, batches: list[Batch]) -> Batch:
    """One batch of all rows."""
    parts = batches or [Batch(trace, empty_columns(0, top_k))]
    return Batch(
        trace,
        {
            name: numpy().concatenate([part.columns()[name] for part in parts])
            for name in parts[0].columns()
        },
    )


def empty_columns(rows: int, top_k: int) -> dict[str, Any]:
    columns = {name: numpy().empty(rows, kind) for name, kind in Batch.COLUMNS.items()}
    return {
        **columns,
        "topk_ids": numpy().empty((rows, top_k), "int32"),
        "topk_weights": numpy().empty((rows, top_k), "float32"),
    }


class Wrong(NamedTuple):
    """A line that can't be read: "line N: why", and what to try; "": look at the line."""

    why: str
    remedy: str


class RowReader:
    """A moetrace_reader of one trace. Any thread may use it; they take turns."""

    def __init__(self, meta: Optional[bytes], num_experts: Optional[int]):
        """`meta`: the trace's first line; None: `read` begins with it. ReadError: "line 1: why"."""
        if num_experts is not None and not 1 <= num_experts <= 65535:
            raise ValueError(f"num_experts is {num_experts}; it must be from 1 to 65535")
        self._library = _reader_library.load()
        self._lock = threading.Lock()
        self._meta: dict[str, Any] = {}
        why = ctypes.create_string_buffer(b"out of memory", _reader_library.ERROR_BYTES)
        self._pointer = (
            self._library.moetrace_reader_begin(num_experts or 0)
            if meta is None
            else self._library.moetrace_reader_open(
                meta, len(meta), num_experts or 0, why, len(why)
            )
        )
        if not self._pointer:
            raise ReadError(why.value.decode(errors="replace"))

    def __del__(self) -> None:
        if getattr(self, "_pointer", None):
            self._library.moetrace_reader_close(self._pointer)

    def info(self) -> _reader_library.Info:
        info = _reader_library.Info(size=ctypes.sizeof(_reader_library.Info))
        self._library.moetrace_reader_get_info(self._pointer, ctypes.byref(info))
        return info

    @property
    def meta(self) -> dict[str, Any]:
        """The first meta line; empty: none has come."""
        if not self._meta:
            text = self._text(self._library.moetrace_reader_meta)
            self._meta = {} if text is None else load_json(text, "the meta line")
        return self._meta

    def begun(self) -> bool:
        """A row or a meta line has come."""
        return bool(self.top_k) or self._text(self._library.moetrace_reader_meta) is not None

    @property
    def top_k(self) -> int:
        """0: no line has said it."""
        return self.info().top_k

    def counted(self) -> _reader_library.Place:
        """Up to where the trace's text is in `requests`, `experts` and `end`."""
        return self._library.moetrace_reader_counted(self._pointer)

    def read(
        self,
        address: int,
        size: int,
        place: _reader_library.Place,
        buffer: Union["RowBuffer", LineBuffer, None] = None,
        only: int = _reader_library.ALL,
        last: bool = False,
    ) -> tuple[int, Optional[Wrong]]:
        """Takes whole lines of the text at `address`, which begins at `place`, until `buffer` is
        full; None: only counts. `last`: the file ends with the text. Returns the bytes taken, and
        what is wrong with the line after them."""
        begin, library = place.byte, self._library
        to = ctypes.byref(buffer.struct) if buffer else None
        with self._lock:
            if isinstance(buffer, LineBuffer):
                taken = library.moetrace_reader_read_lines(
                    self._pointer, address, size, ctypes.byref(place), to, int(last)
                )
            else:
                read = library.moetrace_reader_read_last if last else library.moetrace_reader_read
                taken = read(self._pointer, address, size, ctypes.byref(place), to, only)
            wrong = None if taken >= 0 else self._wrong()
        return place.byte - begin, wrong

    def open_batches(self, name: str, descriptor: int, byte: int) -> int:
        """A moetrace_reader_batches, for `read_batches`. ReadError: "NAME: why; what to try"."""
        why = ctypes.create_string_buffer(b"out of memory", _reader_library.ERROR_BYTES)
        with self._lock:
            opened = self._library.moetrace_reader_open_batches(
                self._pointer, os.fsencode(name), descriptor, byte, why, len(why)
            )
        if not opened:
            raise ReadError(why.value.decode(errors="replace"))
        return opened

    def close_batches(self, batches: int) -> None:
        self._library.moetrace_reader_close_batches(batches)

    def read_batches(
        self, batches: int, buffer: Optional["RowBuffer"], only: int = _reader_library.ALL
    ) -> tuple[int, Optional[Wrong]]:
        """Takes rows of another file until `buffer` is full; None: only counts. Returns how many it
        went past, 0 at their end, and what is wrong after them."""
        library = self._library
        with self._lock:
            passed = library.moetrace_reader_read_batches(
                self._pointer, batches, ctypes.byref(buffer.struct) if buffer else None, only
            )
            return max(0, passed), None if passed >= 0 else self._wrong()

    def read_message(self, message: bytes, from_seq: int, buffer: "RowBuffer") -> None:
        """Takes the rows of a message of topic `rows` from number `from_seq` on. ReadError: why."""
        library = self._library
        with self._lock:
            taken = library.moetrace_reader_read_message(
                self._pointer, message, len(message), from_seq, ctypes.byref(buffer.struct)
            )
            wrong = self._wrong() if taken < 0 else None
        if wrong:
            raise ReadError(wrong.why)

    def counted_batches(self) -> int:
        """Up to which byte of the other file rows are in `requests` and `experts`."""
        return self._library.moetrace_reader_counted_batches(self._pointer)

    def _wrong(self) -> Wrong:
        library = self._library
        texts = (library.moetrace_reader_error, library.moetrace_reader_what_to_try)
        return Wrong(*(text(self._pointer).decode(errors="replace") for text in texts))

    def records(self) -> list[_reader_library.Request]:
        """Of all requests that are known, in the order of their first lines; strings in them don't
        stay."""
        return [self._record(index) for index in range(self.info().requests)]

    def _record(self, index: int) -> _reader_library.Request:
        record = _reader_library.Request(size=ctypes.sizeof(_reader_library.Request))
        self._library.moetrace_reader_get_request(self._pointer, index, ctypes.byref(record))
        return record

    def requests(self) -> list[RequestInfo]:
        with self._lock:
            return [_request_info(record) for record in self.records()]

    def req_ids(self, first: int) -> dict[int, Optional[str]]:
        """Names by number, without the first `first` requests."""
        with self._lock:
            infos = [
                _request_info(self._record(index)) for index in range(first, self.info().requests)
            ]
        return {info.number: info.req_id for info in infos}

    def experts(self) -> Any:
        """int64 [num_layers, num_experts]. ReadError where the number of experts is not known."""
        info = self.info()
        if info.num_experts == 0:
            raise ReadError("the trace does not say how many experts there are; give num_experts")
        counts = numpy().zeros((info.num_layers, info.num_experts), "int64")
        with self._lock:
            for layer in range(info.num_layers):
                self._library.moetrace_reader_get_counts(
                    self._pointer, layer, counts[layer].ctypes.data
                )
        return counts

    def end(self) -> Optional[dict]:
        text = self._text(self._library.moetrace_reader_end)
        return None if text is None else load_json(text, "its end line")

    def _text(self, function: Any) -> Optional[bytes]:
        with self._lock:
            size = ctypes.c_size_t()
            text = function(self._pointer, ctypes.byref(size))
            return ctypes.string_at(text, size.value) if text else None


class RowBuffer(_reader_library.Buffer):
    """Room for rows of a batch."""

    def __init__(self, capacity: int, top_k: int):
        self.columns = empty_columns(capacity, top_k)
        addresses = {name: column.ctypes.data for name, column in self.columns.items()}
        addresses["ids"], addresses["weights"] = (
            addresses.pop("topk_ids"),
            addresses.pop("topk_weights"),
        )
        self.struct = _reader_library.Rows(
            size=ctypes.sizeof(_reader_library.Rows), capacity=capacity, count=0, **addresses
        )

    def batch(self, trace: Any) -> Batch:
        return Batch(trace, {name: column[: self.count] for name, column in self.columns.items()})


def load_json(text: bytes, what: str) -> Any:
    """ReadError: "what: why"."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ReadError(f"{what}: {str(error).splitlines()[0]}") from None


def _request_info(record: _reader_library.Request) -> RequestInfo:
    def text(address: Optional[int], size: int) -> Optional[str]:
        return None if address is None else ctypes.string_at(address, size).decode(errors="replace")

    def known(number: int) -> Optional[int]:
        return None if number < 0 else number

    return RequestInfo(
        text(record.req_id, record.req_id_bytes),
        record.number,
        known(record.prompt_tokens),
        known(record.cached_tokens),
        known(record.generated_tokens),
        text(record.status, record.status_bytes),
        record.rows,
    )


def _module(name: str, wanted_by: str) -> Any:
    try:
        return __import__(name)
    except ImportError:
        raise ReadError(f"{wanted_by}: {name} is not installed; pip install {name}") from None
