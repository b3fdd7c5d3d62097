"""`open`: a trace file as numpy arrays."""

from __future__ import annotations

import logging
import os
from typing import Any, BinaryIO, Callable, Iterator, Optional, Union

from ..errors import ReadError
from ..recording._counts import Cost
from . import _lines, _reader_library, _rows
from ._lines import ControlLine, Line, LossLine, StepLine, Steps, TornLine
from ._reader_library import numpy
from ._routing import Routing
from ._rows import Batch, RequestInfo
from ._trace_file import TraceFile
from ._two_files import RowsFile, find_lines, find_rows, is_rows_file

_log = logging.getLogger("moetrace")

BLOCK_BYTES = 512 * 1024  # a read; fits a level 2 cache
MOST_UNRECORDED = (
    1 << 20
)  # positions of a request that have no row: a prefix cache may hold that many


Source = Union[str, os.PathLike, BinaryIO]


def open(path: Source, num_experts: Optional[int] = None) -> "Trace":
    """Opens a trace file: moetrace's, or a plain log of another hook. `num_experts`: for logs that
    don't say it. path: also "-" for standard input, or a file object that gives bytes, which is
    read from its start if it is a regular file's. What is compressed with gzip or zstd is unpacked,
    whatever it is called.

    The file may still grow: each use reads up to its last whole line, and a line of the logger
    "moetrace" says once that there was an unfinished one. ReadError, with one line, if it is not a
    trace.
    """
    return Trace(path, num_experts)


class Trace:
    """A trace file. Its rows come from `batches`, all at once from `read`, or of one request from
    `request`.

    path: its name. `lines` gives what else is in the file: steps, losses, torn rows, changes of the
    selection. Memory stays bounded, except for what `read`, `request` and `steps` return and for
    one record a request. The file is read once for all of `requests`, `experts` and `end`, and from
    where it ended when it has grown; passes of `batches` and `lines` count for it. Any thread may
    use it.
    """

    def __init__(self, path: Source, num_experts: Optional[int] = None):
        numpy()
        self._file = TraceFile(path)
        self.path = self._file.name
        self._reader = _rows.RowReader(None, num_experts)
        self._rows: Optional[RowsFile] = None  # where they are in another file
        self._no_rows = ""  # why there are none, though the trace has some
        self._no_lines = ""  # why there are only rows
        given = self._take_rows_file() if is_rows_file(self._file) else None
        self._names: dict[int, Optional[str]] = {}
        self._rest = (
            0,
            0,
            False,
        )  # after the last whole line, at the last look: line, bytes, compressed data cut
        self._warned = False
        self._counted_size = -1  # of a compressed file when all of it was counted
        if self._no_lines:
            self._rows = RowsFile(self._file, self._reader)
            self._rows.count()
            return
        for _ in self._passes(
            _reader_library.Place(0, 1), None, _reader_library.ALL, None, until=self._reader.begun
        ):
            pass
        if not self._reader.begun():
            raise self._error(
                "its first line has no end yet; wait until its writer has ended it"
                if self._rest[1]
                else "is still empty; wait until its collector has written to it, "
                "or give another file"
            )
        self._find_rows(given)

    def __enter__(self) -> "Trace":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<moetrace.Trace {self.path}>"

    def close(self) -> None:
        """Closes the file, or both; a second call does nothing."""
        self._file.close()
        if self._rows:
            self._rows.close()

    def _take_rows_file(self) -> Optional[TraceFile]:
        """A rows file was given. Its lines become the file, if they are there."""
        rows = self._file
        lines, there = find_lines(rows.name)
        if there:
            self._file = TraceFile(lines)
            return rows
        self._no_lines = (
            f"its lines should be in {lines}, which is not there, so requests' names, steps and "
            "totals are unknown; put both files into one folder"
        )
        _log.warning("moetrace: %s: %s", self.path, self._no_lines)
        return None

    def _find_rows(self, given: Optional[TraceFile]) -> None:
        """By the meta line. ReadError where it is more than Python's json takes."""
        where = self.meta.get("rows") if self.meta.get("schema") else None
        if not isinstance(where, dict):
            if given:
                raise self._error("its meta line says nothing of rows in another file")
            return
        found = given.name if given else find_rows(self.path, where)
        if found is None:
            self._no_rows = (
                f"its rows are in {where.get('file')}, which is not there; "
                "put both files into one folder"
            )
            _log.warning("moetrace: %s: %s", self.path, self._no_rows)
        else:
            self._rows = RowsFile(given or TraceFile(found), self._reader)

    @property
    def meta(self) -> dict[str, Any]:
        """The first meta line, as far as the file was read; empty: a plain log has none so far.
        Its `layers` describes each MoE layer, and `engine_id` names the engine, if the producer
        declared them (trace/FORMAT.md)."""
        try:
            return self._reader.meta
        except ReadError as error:
            raise self._error(f"{error}; write it on one line of less depth") from None

    @property
    def unfinished(self) -> int:
        """Bytes of the last line, which is left out because it is not complete yet."""
        self._count_lines()
        return self._rest[1]

    @property
    def top_k(self) -> int:
        """The most experts of a row, in any layer: the width of all arrays. A row of a layer with a
        smaller top-k fills the first places; the others are -1 and NaN. 0: a plain log that has
        neither rows yet nor a meta line that says it."""
        return self._reader.top_k

    @property
    def num_experts(self) -> Optional[int]:
        """Ids are below it, in every layer; None: neither the file, as far as it was read, nor
        `open` says it."""
        return self._reader.info().num_experts or None

    @property
    def num_layers(self) -> int:
        """Layers of the model, dense ones too. A plain log does not say it: one more than the
        highest seen so far."""
        return self._reader.info().num_layers

    @property
    def end(self) -> Optional[dict]:
        """The last line, with the trace's totals; None: it is still being written, or its collector
        was stopped."""
        self._count_lines()
        return self._reader.end()

    @property
    def cost(self) -> Optional[Cost]:
        """What tracing took of the engine's threads, by the last line; None: the file has no end,
        or does not say."""
        return _lines.cost_of(self.end)

    def lines(self, *types: type[Line]) -> Iterator[Line]:
        """The lines other than rows, in the file's order, in bounded memory. types: only of these
        classes, such as `moetrace.StepLine, moetrace.LossLine`. Reads the file once. ReadError,
        after the lines before it, at a line that is wrong."""
        kinds = _lines.kinds_of(types)
        self._need_lines()
        return (line for records in self._records(kinds) for line in _lines.of_records(records))

    def steps(self) -> Steps:
        """All announced forward passes, as columns: 96 bytes a step. Reads the file once."""
        self._need_lines()
        parts = [records.copy() for records in self._records(_lines.KINDS[StepLine])]
        return Steps(numpy().concatenate(parts or [_lines.LineBuffer(0, 0).records]))

    def losses(self) -> list[LossLine]:
        """The rows that were dropped, in the file's order. Reads the file once; `lines` gives
        several types at once."""
        return [line for line in self.lines(LossLine) if isinstance(line, LossLine)]

    def torn(self) -> list[TornLine]:
        """The rows that never became whole, as after a crash. Reads the file once."""
        return [line for line in self.lines(TornLine) if isinstance(line, TornLine)]

    def controls(self) -> list[ControlLine]:
        """The changes of the selection. Reads the file once."""
        return [line for line in self.lines(ControlLine) if isinstance(line, ControlLine)]

    def requests(self) -> list[RequestInfo]:
        """All requests, in the order in which they appear."""
        self._count()
        found = self._reader.requests()
        return [info._replace(rows=None) for info in found] if self._no_rows else found

    def experts(self) -> Any:
        """How often each expert was picked: int64 [num_layers, num_experts]."""
        self._need_rows()
        self._count()
        try:
            return self._reader.experts()
        except ReadError as error:
            raise self._error(error) from None

    def request(self, which: Union[str, int]) -> Routing:
        """The routing of one request, by its req_id or its number. Only the part of the file that
        it is in is read again.

        Where a req_id was used for several requests (see `requests`), they are told apart by their
        numbers. A plain log has names only, so that there all rows of a name are one request's, and
        a line of the logger "moetrace" says how many of them are left out because others have their
        place. ReadError also where its rows have no positions, as under vLLM's asynchronous
        speculative decoding.
        """
        self._need_rows()
        self._count()
        found = [
            (info, record)
            for info, record in zip(self._reader.requests(), self._reader.records())
            if which == (info.req_id if isinstance(which, str) else info.number)
        ]
        if len(found) != 1:
            numbers = ", ".join(str(info.number) for info, _ in found[:10])
            raise self._error(
                f"{len(found)} requests are called {which!r}; give the number of one: {numbers}"
                if found
                else f"no request {which!r}; requests() lists them"
            )
        info, record = found[0]
        if info.rows and not record.positions:
            raise self._error(
                f"request {which!r} has {record.rows} rows, and it is not known at which "
                "positions; batches() gives them as they are"
            )
        if record.positions > record.rows + MOST_UNRECORDED:
            raise self._error(
                f"request {which!r} has {record.rows} rows and "
                f"a token_idx of {record.positions - 1}; batches() gives them as they are"
            )
        try:
            routing = Routing(info, record.positions, self.num_layers, self.top_k)
        except MemoryError:
            raise self._error(
                f"request {which!r}: [{record.positions}, {self.num_layers}, {self.top_k}] needs "
                "more memory than there is; batches() gives its rows as they are"
            ) from None
        if info.rows:
            place = _reader_library.Place(record.first.byte, record.first.line)
            left = record.rows
            for batch in self._batches(65536, place, info.number, record.end_byte):
                routing.put(batch)
                left -= len(batch)
                if left <= 0:
                    break
        if routing.left_out and self._reader.info().plain:
            _log.warning(
                "moetrace: %s: request %r: left out %d of its %d rows, "
                "whose positions are not known or come again, as names "
                "do in a plain log; batches() has them all",
                self.path,
                which,
                routing.left_out,
                info.rows,
            )
        return routing

    def batches(self, rows: int = 65536) -> Iterator[Batch]:
        """All rows in the file's order, `rows` at a time; the last batch may have fewer. A line
        that is wrong raises ReadError, after the rows before it."""
        if rows < 1:
            raise ValueError(f"batches: rows is {rows}; it must be 1 or more")
        return self._batches(rows, _reader_library.Place(0, 1), _reader_library.ALL, None)

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
        return self._file.error(why)

    def _wrong(self, wrong: _rows.Wrong, line: int) -> ReadError:
        show = (
            f"{self._file.unpacks_with} FILE | sed -n {line}p"
            if self._file.packed
            else f"sed -n {line}p FILE"
        )
        return self._error(f"{wrong.why}; {wrong.remedy or 'look at it: ' + show}")

    def _need_rows(self) -> None:
        if self._no_rows:
            raise self._error(self._no_rows)

    def _need_lines(self) -> None:
        if self._no_lines:
            raise self._error(self._no_lines)

    def _count(self) -> None:
        """Reads what has not been counted yet, if there is anything."""
        self._count_lines()
        if self._rows:
            self._rows.count()

    def _count_lines(self) -> None:
        if self._no_lines:
            return
        size = self._file.size()
        if (
            self._file.packed and size == self._counted_size
        ):  # else it would be unpacked to see that there is nothing
            return
        for _ in self._passes(self._reader.counted(), None, _reader_library.ALL, None):
            pass
        self._counted_size = size

    def _batches(
        self, rows: int, place: _reader_library.Place, only: int, end: Optional[int]
    ) -> Iterator[Batch]:
        self._need_rows()
        if not self.top_k:
            self._count()  # no row has come: perhaps one has now
        if self._rows:
            self._count_lines()  # they say how many rows there are
            for buffer in self._rows.passes(
                lambda: _rows.RowBuffer(rows, self.top_k), only, place.byte
            ):
                yield buffer.batch(self)
        elif self.top_k:
            for buffer in self._passes(place, lambda: _rows.RowBuffer(rows, self.top_k), only, end):
                yield buffer.batch(self)

    def _records(self, kinds: int) -> Iterator[Any]:
        for buffer in self._passes(
            _reader_library.Place(0, 1), lambda: _lines.LineBuffer(kinds), _reader_library.ALL, None
        ):
            yield buffer.records

    def _passes(
        self,
        place: _reader_library.Place,
        make: Optional[Callable[[], Any]],
        only: int,
        end: Optional[int],
        until: Optional[Callable[[], bool]] = None,
    ) -> Iterator[Any]:
        """Reads lines from `place` to the byte `end`, or the file's, or a block at a time `until`
        that is true. Fills one buffer of `make` after the other and yields each when it is full;
        None: only counts."""
        text = numpy().empty(BLOCK_BYTES, "uint8")
        source = self._file.text()
        begin = have = 0  # of the text, that is there and not yet taken: [begin, have)
        last = False  # the file ends with the text
        new_buffer = make or (lambda: None)
        buffer = new_buffer()
        while True:
            taken, wrong = self._reader.read(
                text.ctypes.data + begin, have - begin, place, buffer, only, last
            )
            begin += taken
            if until is not None and until():
                return
            if buffer is not None and (buffer.full or wrong and buffer.count):
                yield buffer
                buffer = new_buffer()
                continue
            if wrong:
                raise self._wrong(wrong, place.line)
            if last:
                break
            left = have - begin
            if left == len(text):
                text = numpy().concatenate([text, numpy().empty(len(text), "uint8")])
            else:
                text[:left] = text[begin:have].copy()
            begin, have = 0, left
            wanted = (
                len(text) - have if end is None else min(len(text) - have, end - place.byte - have)
            )
            got = (
                source.read(memoryview(text)[have : have + wanted], place.byte + have)
                if wanted > 0
                else 0
            )
            last = got == 0
            have += got
        if end is None:
            self._leave_out(place.line, len(text[begin:have].tobytes().strip()), source.cut)
        if buffer is not None and buffer.count:
            yield buffer

    def _leave_out(self, line: int, size: int, cut: bool) -> None:
        self._rest = (line, size, cut)
        if self._warned or not (size or cut) or not self._reader.begun():
            return
        self._warned = True
        in_bytes = f"{size} byte" if size == 1 else f"{size} bytes"
        if cut:
            _log.warning(
                "moetrace: %s: the compressed data end early, in line %d, "
                "of which %s were left out; copy the file again, "
                "or wait until its writer has ended",
                self.path,
                line,
                in_bytes,
            )
        else:
            _log.warning(
                "moetrace: %s: left out 1 unfinished line: line %d has %s and no newline; "
                "wait until its writer has ended the line",
                self.path,
                line,
                in_bytes,
            )
