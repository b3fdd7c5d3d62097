"""Traces whose rows are in a file of their own (trace/FORMAT.md, "Rows as Arrow"): which two files
belong together, and their rows as batches."""

from __future__ import annotations

import os
from typing import Any, Callable, Iterator, Optional

from . import _reader_library, _rows
from ._trace_file import TraceFile

PACKINGS = ("", ".gz", ".zst")


def is_rows_file(file: TraceFile) -> bool:
    """By its first bytes."""
    first = bytearray(8)
    have = 0
    source = file.text()
    while have < len(first):
        got = source.read(memoryview(first)[have:], have)
        if got == 0:
            return False
        have += got
    return bool(_reader_library.load().moetrace_reader_is_batches(bytes(first), have))


def find_rows(name: str, rows: dict) -> Optional[str]:
    """The rows file of the lines in the file `name`: the one with their name ("trace.arrows.1" of
    "trace.jsonl.1"), else the one that `rows`, of the meta line, names."""
    named = os.path.join(os.path.dirname(name), str(rows.get("file")))
    return _first_there(_renamed(name, ".jsonl", ".arrows")) or _first_there(named)


def find_lines(name: str) -> tuple[str, bool]:
    """Where the lines of the rows file `name` are, or should be; whether they are there."""
    lines = _renamed(name, ".arrows", ".jsonl")
    found = _first_there(lines)
    return found or lines, found is not None


class RowsFile:
    """The rows, read through a `RowReader` that knows the lines."""

    def __init__(self, file: TraceFile, reader: _rows.RowReader):
        self._file, self._reader = file, reader
        self._counted: Any = None  # size of the file, and the lines' place, when all was counted

    def close(self) -> None:
        self._file.close()

    def count(self) -> None:
        """Takes the rows that have not been counted yet, if there are any."""
        lines = self._reader.counted()
        now = (self._file.size(), lines.byte)
        if now != self._counted:
            for _ in self.passes(None, _reader_library.ALL, self._reader.counted_batches()):
                pass
            self._counted = now

    def passes(
        self, make: Optional[Callable[[], _rows.RowBuffer]], only: int, byte: int = 0
    ) -> Iterator[_rows.RowBuffer]:
        """Fills one buffer of `make` after the other with rows from the batch at `byte` on; None:
        only counts. ReadError after the rows before it, at a batch that is wrong."""
        batches = self._reader.open_batches(self._file.name, self._file.descriptor(), byte)
        try:
            while True:
                buffer = make() if make else None
                passed, wrong = self._reader.read_batches(batches, buffer, only)
                if buffer is not None and buffer.count:
                    yield buffer
                if wrong:
                    raise _rows.ReadError(f"{wrong.why}; {wrong.remedy}")
                if not passed:
                    return
        finally:
            self._reader.close_batches(batches)


def _renamed(name: str, extension: str, other: str) -> str:
    for packing in PACKINGS[1:]:
        name = name.removesuffix(packing)
    folder, file = os.path.split(name)
    stem, found, more = file.rpartition(extension)
    return os.path.join(folder, stem + other + more if found else os.path.splitext(file)[0] + other)


def _first_there(name: str) -> Optional[str]:
    return next((name + packing for packing in PACKINGS if os.path.exists(name + packing)), None)
