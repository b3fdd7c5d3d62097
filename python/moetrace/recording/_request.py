"""A request, as the engine holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from .producer import Producer


class Request:
    """A request, live from `Producer.request` until `end`."""

    def __init__(self, producer: Producer, number: int):
        self._producer = producer
        self.number = number  # never reused within a trace

    def __repr__(self) -> str:
        return f"<moetrace.Request {self.number}>"

    def end(self, generated_tokens: Optional[int] = None, status: str = "stop") -> None:
        """Ends the request. A second call is ignored.

        generated_tokens: 0 or more; None: unknown. status: such as "stop", "length" or "cancelled",
        at most 31 bytes of UTF-8.
        """
        self._producer._end_request(self.number, generated_tokens, status)
