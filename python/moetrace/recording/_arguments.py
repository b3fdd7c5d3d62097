"""Single arguments as the C API takes them; what can't be one raises an error of one line."""

from __future__ import annotations

import operator
import reprlib
from typing import Any, Optional

from . import _library

MOST_U32, MOST_U64 = 2**32 - 1, 2**64 - 1


def tokens(what: str, count: Optional[int]) -> int:
    return _library.UNKNOWN_TOKENS if count is None else number(what, count, MOST_U32)


def text(what: str, value: Any) -> bytes:
    if not isinstance(value, str):
        raise TypeError(f"{what} is {shown(value)}; give a str")
    return value.encode()


def number(what: str, value: Any, most: int, give: str = "an integer") -> int:
    """`value` as an int from 0 to `most`. Raises TypeError or ValueError."""
    try:
        index = operator.index(value)
    except TypeError:
        raise TypeError(f"{what} is {shown(value)}; give {give}") from None
    if not 0 <= index <= most:
        raise ValueError(f"{what} is {index}; it must be from 0 to {most}")
    return index


def shown(value: Any) -> str:
    """`value` in one short line."""
    return " ".join(reprlib.repr(value).split())
