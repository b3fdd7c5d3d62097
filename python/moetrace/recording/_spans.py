"""Spans say which tokens the rows of a step are: the forms that engines give, and the C API's."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional, Sequence, Union

from . import _arguments, _library
from ._request import Request

# The fields of a numpy array of spans, the form that `Producer.step` takes fastest.
SPAN_FIELDS = [("request", "u8"), ("first_position", "u8"), ("first_row", "u4"), ("rows", "u4")]


class Span(NamedTuple):
    """Rows [first_row, first_row + rows) of a step are tokens of a request, from position
    first_position on; None: unknown positions."""

    request: Union[Request, int]
    first_position: Optional[int]
    first_row: int
    rows: int


_span_dtype: Any = None  # a dtype that is equal to SPAN_FIELDS: comparing objects is faster


def span_array(spans: Any) -> tuple[Any, int]:
    """`spans` as the C API takes them, and their number. A numpy array is not copied."""
    global _span_dtype
    if hasattr(spans, "dtype"):
        if spans.dtype is not _span_dtype or not spans.flags.c_contiguous:
            if spans.dtype != SPAN_FIELDS or not spans.flags.c_contiguous:
                raise ValueError(
                    f"step: spans has dtype {spans.dtype}; it must be contiguous, with the fields "
                    "SPAN_FIELDS"
                )
            _span_dtype = spans.dtype
        return spans.ctypes.data, len(spans)
    try:
        array = _filled(spans)
    except (TypeError, ValueError):
        array = _filled(_checked_spans(spans))
    return array, len(array)


def _filled(spans: Sequence[tuple]) -> Any:
    array = (_library.Span * len(spans))()
    for entry, (request, first_position, first_row, span_rows) in zip(array, spans):
        entry.request = request.number if isinstance(request, Request) else request
        entry.first_position, entry.first_row, entry.rows = first_position, first_row, span_rows
    return array


def _checked_spans(spans: Any) -> list[tuple]:
    """`spans` with plain ints. Raises TypeError or ValueError for what can't be one."""
    try:
        spans = [tuple(span) for span in spans]
    except TypeError:
        raise TypeError(
            f"step: spans is {_arguments.shown(spans)}; "
            "give a list of (request, first position, first row, rows)"
        ) from None
    for n, span in enumerate(spans):
        if len(span) != 4:
            raise TypeError(
                f"step: span {n} is {_arguments.shown(span)}; "
                "give (request, first position, first row, rows)"
            )
        request, first_position, first_row, rows = span
        if isinstance(request, Request):
            number = request.number
        else:
            number = _arguments.number(
                f"step: the request of span {n}",
                request,
                _arguments.MOST_U64,
                "what Producer.request gave, or its number",
            )
        if first_position is None:
            position = _library.UNKNOWN_POSITION
        else:
            position = _arguments.number(
                f"step: the first position of span {n}", first_position, _arguments.MOST_U64 - 1
            )
        spans[n] = (
            number,
            position,
            _arguments.number(f"step: the first row of span {n}", first_row, _arguments.MOST_U32),
            _arguments.number(f"step: the rows of span {n}", rows, _arguments.MOST_U32),
        )
    return spans
