"""The bytes of a trace file: where they are, and how they are read at any place of its text."""

from __future__ import annotations

import builtins
import ctypes
import os
import shutil
import stat
import tempfile
from typing import Any, Optional

from ..errors import ReadError
from . import _reader_library

SKIP_BYTES = 1 << 20  # unpacked at a time on the way to a place


class TraceFile:
    """A file by its name, "-" for standard input, or a file object that gives bytes. What is not a
    regular file can be read only once, so it is copied to an unnamed temporary file first.
    ReadError: "NAME: why; what to try"."""

    def __init__(self, given: Any):
        self._descriptor: Optional[int] = None
        self.name, self._descriptor = _open(given)
        first = bytearray(4)
        have = _Plain(self).read(first, 0)
        self.packed = bool(_reader_library.load().moetrace_reader_is_packed(bytes(first), have))
        self.unpacks_with = "zcat" if first[0] == 0x1F else "zstdcat"

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """A second call does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def error(self, why: Any) -> ReadError:
        return ReadError(f"{self.name}: {why}")

    def descriptor(self) -> int:
        if self._descriptor is None:
            raise self.error("is closed; open it again")
        return self._descriptor

    def size(self) -> int:
        """Of the file as it is, packed or not."""
        return os.fstat(self.descriptor()).st_size

    def text(self) -> Any:
        """Something to read its text with, for one pass: see `_Plain.read`, and `cut`."""
        return _Unpacked(self) if self.packed else _Plain(self)


class _Plain:
    cut = False  # the compressed data end early

    def __init__(self, file: TraceFile):
        self._file = file

    def read(self, room: Any, offset: int) -> int:
        """Bytes of the text from `offset` on into `room`: how many; 0: the text ends there, as
        yet."""
        try:
            return os.preadv(self._file.descriptor(), [room], offset)
        except OSError as error:
            raise self._file.error(
                f"can't be read: {error.strerror}; copy the file to another disk"
            ) from None


class _Unpacked:
    """Reads on where it was; for a place before that, from the file's start."""

    def __init__(self, file: TraceFile):
        self._file, self._library = file, _reader_library.load()
        self._pointer, self._at, self.cut = None, 0, False

    def __del__(self) -> None:
        self._library.moetrace_reader_unpack_close(self._pointer)

    def read(self, room: Any, offset: int) -> int:
        descriptor = self._file.descriptor()
        if self._pointer is None or offset < self._at:
            self._library.moetrace_reader_unpack_close(self._pointer)
            why = ctypes.create_string_buffer(_reader_library.ERROR_BYTES)
            self._pointer, self._at = (
                self._library.moetrace_reader_unpack(descriptor, why, len(why)),
                0,
            )
            if not self._pointer:
                raise self._file.error(
                    f"can't be read: {why.value.decode(errors='replace')}; "
                    "copy the file to another disk"
                )
        while self._at < offset:
            if self._some(bytearray(min(SKIP_BYTES, offset - self._at))) == 0:
                return 0
        return self._some(room)

    def _some(self, room: Any) -> int:
        cut = ctypes.c_int()
        address = (ctypes.c_char * len(room)).from_buffer(room)
        got = self._library.moetrace_reader_unpack_read(
            self._pointer, address, len(room), ctypes.byref(cut)
        )
        if got < 0:
            raise self._file.error(
                self._library.moetrace_reader_unpack_error(self._pointer).decode(errors="replace")
            )
        self._at, self.cut = self._at + got, bool(cut.value)
        return got


def _open(given: Any) -> tuple[str, int]:
    """A name for messages, and a descriptor of a regular file."""
    if hasattr(given, "read"):
        return _open_object(given)
    path = os.fspath(given)
    name = "standard input" if path == "-" else os.fsdecode(path)
    try:
        descriptor = (
            os.dup(0) if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC | _waiting(path))
        )
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ReadError(
            f"{name}: {getattr(error, 'strerror', None) or error}; give a trace file"
        ) from None
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return name, descriptor
    try:
        if stat.S_ISDIR(mode):
            raise ReadError(f"{name}: is a folder, not a trace file; give the files in it")
        if path != "-" and not stat.S_ISFIFO(mode):
            raise ReadError(f"{name}: is not a regular file; give a trace file")
        with builtins.open(descriptor, "rb", closefd=False) as source:
            return name, _copy(name, source)
    finally:
        os.close(descriptor)


def _waiting(path: Any) -> int:
    """Of a pipe with a name the writer may come later; nothing else is to be waited for."""
    return 0 if stat.S_ISFIFO(os.stat(path).st_mode) else os.O_NONBLOCK


def _open_object(given: Any) -> tuple[str, int]:
    name = getattr(given, "name", None)
    name = name if isinstance(name, str) else f"<{type(given).__name__}>"
    try:
        descriptor = given.fileno()
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return name, os.dup(descriptor)
    except (AttributeError, OSError, ValueError):  # it has none, as io.BytesIO, or is closed
        pass
    return name, _copy(name, given)


def _copy(name: str, source: Any) -> int:
    try:
        with tempfile.TemporaryFile(prefix="moetrace-") as copy:
            shutil.copyfileobj(source, copy, SKIP_BYTES)
            copy.flush()
            return os.dup(copy.fileno())
    except TypeError:
        raise ReadError(f"{name}: gives text, not bytes; open it in binary mode") from None
    except (OSError, ValueError) as error:
        raise ReadError(
            f"{name}: can't be copied to a temporary file: "
            f"{getattr(error, 'strerror', None) or error}; give a trace file by its name"
        ) from None
