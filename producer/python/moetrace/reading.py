"""`open`: a trace file as numpy arrays."""
from __future__ import annotations

import os
import stat
from typing import Any, Iterator, Optional, Union

from . import _reader_library, _rows
from ._reader_library import numpy
from ._rows import Batch, RequestInfo
from .errors import ReadError

BLOCK_BYTES = 512 * 1024  # a read; fits a level 2 cache
MOST_UNRECORDED = 1 << 20  # positions of a request that have no row: a prefix cache may hold that many


def open(path: Union[str, os.PathLike], num_experts: Optional[int] = None) -> "Trace":
    """Opens a trace file: moetrace's, or a plain log of the public format. `num_experts`: for logs that don't say it.

    The file may still grow: each use reads up to its last whole line. ReadError, with one line, if it is no trace.
    """
    return Trace(path, num_experts)


class Routing:
    """What one request's tokens were routed to. Axis 0 is the position in the request (token_idx), axis 1 the model's layer.

    ids: int32 [tokens, num_layers, top_k], -1: no expert, or no row. weights: float32, the same shape, NaN: not known, or no row.
    Where a position comes twice in a layer (after a preemption), the last one counts. recorded: bool [tokens, num_layers], what
    has a row. positions, layers: int64, those that have any. request: its `RequestInfo`. Rows whose position is not known are
    not in it.
    """

    def __init__(self, request: RequestInfo, tokens: int, num_layers: int, top_k: int):
        self.request = request
        self.ids = numpy().full((tokens, num_layers, top_k), -1, "int32")
        self.weights = numpy().full((tokens, num_layers, top_k), numpy().nan, "float32")
        self.recorded = numpy().zeros((tokens, num_layers), bool)

    def put(self, batch: Batch) -> None:
        known = batch.token_idx >= 0
        where = batch.token_idx[known], batch.layer[known]
        self.ids[where], self.weights[where] = batch.topk_ids[known], batch.topk_weights[known]  # the last of equal places stays
        self.recorded[where] = True

    def __repr__(self) -> str:
        tokens, layers, top_k = self.ids.shape
        parts = [f"{self.recorded.sum()} rows of top-{top_k}", _rows.extent("positions", self.positions),
                 _rows.extent("layers", self.layers)]
        return (f"<moetrace.Routing of {self.request.req_id!r}, request {self.request.number}: {', '.join(filter(None, parts))}; "
                f"[{tokens}, {layers}, {top_k}]>")

    @property
    def positions(self) -> Any:
        return numpy().flatnonzero(self.recorded.any(1))

    @property
    def layers(self) -> Any:
        return numpy().flatnonzero(self.recorded.any(0))


class Trace:
    """A trace file. Its rows come from `batches`, all at once from `read`, or of one request from `request`.

    meta: the first line, a dict. path. Memory is bounded but for what `read` and `request` return and a record a request. The
    file is read once for all of `requests`, `experts` and `end`, and from where it ended when it has grown; passes of `batches`
    count for it. Any thread may use it.
    """

    def __init__(self, path: Union[str, os.PathLike], num_experts: Optional[int] = None):
        self.path = os.fspath(path)
        self._file: Optional[int] = None
        numpy()
        try:
            self._file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            if not stat.S_ISREG(os.fstat(self._file).st_mode):
                raise self._error("is not a regular file; give a trace file")
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise self._error(f"{getattr(error, 'strerror', None) or error}; give a trace file") from None
        try:
            self._reader = _rows.RowReader(self._first_line(), num_experts)
        except ReadError as error:
            raise self._error(f"{error}; is it a trace of moetrace, or a log of the public format?") from None
        self.meta: dict[str, Any] = self._reader.meta
        self._names: dict[int, Optional[str]] = {}

    def __enter__(self) -> "Trace":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<moetrace.Trace {self.path}>"

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        file, self._file = getattr(self, "_file", None), None
        if file is not None:
            os.close(file)

    @property
    def top_k(self) -> int:
        return self._reader.top_k

    @property
    def num_experts(self) -> Optional[int]:
        """Routed experts of a layer; None: neither the file nor `open` says it."""
        return self._reader.info().num_experts or None

    @property
    def num_layers(self) -> int:
        """Layers of the model, dense ones too. A plain log does not say it: one more than the highest seen so far."""
        return self._reader.info().num_layers

    @property
    def end(self) -> Optional[dict]:
        """The last line, with the trace's totals; None: it is still being written, or its collector was stopped."""
        self._count()
        return self._reader.end()

    def requests(self) -> list[RequestInfo]:
        """All requests, in the order in which they appear."""
        self._count()
        return self._reader.requests()

    def experts(self) -> Any:
        """How often each expert was picked: int64 [num_layers, num_experts]."""
        self._count()
        try:
            return self._reader.experts()
        except ReadError as error:
            raise self._error(error) from None

    def request(self, which: Union[str, int]) -> Routing:
        """The routing of one request, by its req_id or its number. Only the part of the file that it is in is read again.

        Where a req_id was used for several requests (see `requests`), they are told apart by their numbers. A plain log has
        names only, so that there all rows of a name are one request's. ReadError also where its rows have no positions, as under
        vLLM's asynchronous speculative decoding.
        """
        self._count()
        found = [(info, record) for info, record in zip(self._reader.requests(), self._reader.records())
                 if which == (info.req_id if isinstance(which, str) else info.number)]
        if len(found) != 1:
            numbers = ", ".join(str(info.number) for info, _ in found[:10])
            raise self._error(f"{len(found)} requests are called {which!r}; give the number of one: {numbers}" if found else
                              f"there is no request {which!r}; requests() lists them")
        info, record = found[0]
        if info.rows and not record.positions:
            raise self._error(f"request {which!r} has {record.rows} rows, and it is not known at which positions; batches() gives "
                              "them as they are")
        if record.positions > record.rows + MOST_UNRECORDED:
            raise self._error(f"request {which!r} has {record.rows} rows and a token_idx of {record.positions - 1}; batches() "
                              "gives them as they are")
        routing = Routing(info, record.positions, self.num_layers, self.top_k)
        if info.rows:
            place = _reader_library.Place(record.first.byte, record.first.line)
            for batch in self._batches(65536, place, info.number, record.end_byte):
                routing.put(batch)
        return routing

    def batches(self, rows: int = 65536) -> Iterator[Batch]:
        """All rows in the file's order, `rows` at a time; the last batch may have fewer. A line that is wrong raises ReadError,
        behind the rows before it."""
        if rows < 1:
            raise ValueError(f"batches: rows is {rows}; it must be 1 or more")
        return self._batches(rows, _reader_library.Place(self._first_row, 2), _reader_library.ALL, None)

    def read(self) -> Batch:
        """All rows in memory, 34 + 8 * top_k bytes each."""
        return _rows.concatenate(self, self.top_k, list(self.batches()))

    def to_pandas(self) -> Any:
        """`Batch.to_pandas` of all rows."""
        return self.read().to_pandas()

    def to_arrow(self) -> Any:
        """`Batch.to_arrow` of all rows."""
        return self.read().to_arrow()

    def req_id_of(self, number: int) -> Optional[str]:
        """The name of a request that has been read; None: it has none."""
        if number not in self._names:
            self._names.update(self._reader.req_ids(len(self._names)))
        return self._names.get(number)

    def _error(self, why: Any) -> ReadError:
        return ReadError(f"{self.path}: {why}")

    def _first_line(self) -> bytes:
        text = b""
        while b"\n" not in text:
            block = self._pread(bytearray(BLOCK_BYTES), len(text))
            text += block
            if not block:
                raise ReadError("is empty, as yet" if not text else "its first line has no end, as yet")
        line = text[:text.index(b"\n")]
        self._first_row = len(line) + 1
        return line

    def _pread(self, room: Any, offset: int) -> Any:
        """Up to as many bytes as there is room for; their part of it."""
        if self._file is None:
            raise self._error("is closed; open it again")
        try:
            return memoryview(room)[:os.preadv(self._file, [room], offset)]
        except OSError as error:
            raise self._error(f"can't be read: {error.strerror}") from None

    def _count(self) -> None:
        """Reads what has not been counted yet, if there is anything."""
        for _ in self._passes(self._reader.counted(), None, _reader_library.ALL, None):
            pass

    def _batches(self, rows: int, place: _reader_library.Place, only: int, end: Optional[int]) -> Iterator[Batch]:
        for buffer in self._passes(place, rows, only, end):
            yield buffer.batch(self)

    def _passes(self, place: _reader_library.Place, rows: Optional[int], only: int,
                end: Optional[int]) -> Iterator[_rows.RowBuffer]:
        """Reads lines from `place` to the byte `end`, or the file's; gives rows whenever there are `rows` of them."""
        text = numpy().empty(BLOCK_BYTES, "uint8")
        begin = have = 0  # of the text, that is there and not yet taken: [begin, have)
        buffer = None if rows is None else _rows.RowBuffer(rows, self.top_k)
        while True:
            taken, wrong = self._reader.read(text.ctypes.data + begin, have - begin, place, buffer, only)
            begin += taken
            if buffer is not None and (buffer.full or wrong and buffer.count):
                yield buffer
                buffer = _rows.RowBuffer(rows, self.top_k)
                continue
            if wrong:
                raise self._error(f"{wrong}; `moetrace verify` says more")
            left = have - begin
            if left == len(text):
                text = numpy().concatenate([text, numpy().empty(len(text), "uint8")])
            else:
                text[:left] = text[begin:have].copy()
            begin, have = 0, left
            wanted = len(text) - have if end is None else min(len(text) - have, end - place.byte - have)
            got = len(self._pread(memoryview(text)[have:have + wanted], place.byte + have)) if wanted > 0 else 0
            if got == 0:
                break
            have += got
        if buffer is not None and buffer.count:
            yield buffer
