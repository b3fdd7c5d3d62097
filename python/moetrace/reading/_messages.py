"""What a collector sends, checked: a message is three frames, topic, header and content."""

from __future__ import annotations

from typing import Any

from ..errors import ReadError
from . import _rows
from ._reader_library import numpy

TOTALS = ("attempted", "delivered", "filtered", "dropped", "torn")
TOPICS = ("meta", "route", "rows", "stats")


def parts(frames: list[bytes]) -> tuple[str, dict, bytes]:
    """Topic, header and content. ReadError: no collector sends it."""
    if len(frames) != 3:
        raise ReadError(f"it has {len(frames)} frames instead of 3")
    if frames[0] not in [topic.encode() for topic in TOPICS]:
        raise ReadError(f"its topic is {frames[0][:20]!r}")
    header = _rows.load_json(frames[1], "its header")
    if not isinstance(header, dict) or not isinstance(header.get("trace_id"), str):
        raise ReadError("its header has no trace_id")
    for name in ("generation", "message", "count", *TOTALS):
        value = header.setdefault(name, 0) if name == "torn" else header.get(name)
        if type(value) is not int or not 0 <= value < 1 << 62:
            raise ReadError(f"{name} in its header must be an integer from 0 to 2^62 - 1")
    rows = frames[0] in (b"route", b"rows")
    if frames[0] == b"rows":
        header["requests"] = _requests(header.get("requests"))
    elif not frames[2].endswith(b"\n"):
        raise ReadError("it ends inside a line")
    if rows and not header["count"] <= min(header["delivered"], len(frames[2])):
        raise ReadError("its header counts more rows than there are")
    return frames[0].decode(), header, frames[2]


def _requests(names: Any) -> dict[int, str]:
    """The names of requests in a header, by number."""
    try:
        named = dict(zip(map(int, names), names.values()))
    except (AttributeError, TypeError, ValueError):
        raise ReadError("its header has no requests") from None
    if not set(map(type, named.values())) <= {str}:
        raise ReadError("a name of a request in its header is no text")
    return named


def stats(payload: bytes) -> dict:
    """The content of topic `stats`, with `counts` as int64 [num_layers, num_experts]."""
    found = _rows.load_json(payload, "its statistics")
    try:
        counts = numpy().array(found["counts"], "int64")
        if counts.ndim != 2:
            raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ReadError("its statistics have no counts [layers][experts]") from None
    return {**found, "counts": counts}
