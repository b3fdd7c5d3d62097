"""A trace as its messages come: what is known of it, and what was missed."""

from __future__ import annotations

import time
from typing import Any, Optional, Sequence, Union

from ..errors import ReadError
from ..recording._counts import Cost
from . import _lines, _messages, _reader_library, _rows
from ._lines import ControlLine, LossLine, Steps, TornLine
from ._messages import TOTALS
from ._reader_library import numpy
from ._rows import Batch, RequestInfo

# A trace's end may come just before its last rows. Without a message for so long, these are lost.
LAST_ROWS_S = 1.0


class LiveTrace:
    """A trace that is being published, from when the stream has come to know its meta line.

    meta: a dict. rows: that have come. rows_before: that the trace had before the first of them
    came, or, if none have, before its meta line; 0 if the stream has seen the trace begin.
    rows_missed: that were published, or written by a collector that died before it could publish
    them, and did not come: rows_before + rows + rows_missed is what is in the trace's file as of
    the last message. With topic "rows" the file may get them a little later. What a restarted
    collector sends again is dropped, and counts once.
    messages_missed: without those of a collector's last moments. collectors: how many have
    published it. totals: attempted, delivered, filtered, dropped and torn rows of the trace as of
    the last message. stats: the collector's last statistics, once a second, with counts int64
    [num_layers, num_experts]; None: none have come. end: the trace's last line, when it has ended
    and no more rows will come, with its totals and its cost; None before. losses, torn, controls:
    the last 4,096 `LossLine`, `TornLine` and `ControlLine` that have come; totals has the sums.
    """

    def __init__(self, trace_id: str, meta: bytes, num_experts: Optional[int]):
        self.trace_id = trace_id
        self._reader = _rows.RowReader(meta, num_experts)
        self.meta: dict[str, Any] = self._reader.meta
        self.rows = self.rows_before = self.rows_missed = self.messages_missed = 0
        self.totals: dict[str, int] = {}
        self.stats: Optional[dict] = None
        self.end: Optional[dict] = None
        self._last: Optional[dict] = None  # the end line, as long as rows may follow it
        self._last_came = 0.0  # when, by the monotonic clock
        self._seen: Optional[int] = None  # rows of the trace up to the end of the last message
        self._generations: set[int] = set()
        self._next_message: dict[str, int] = {}  # topic -> number
        self._names: dict[int, Optional[str]] = {}
        self._names_sent: dict[int, str] = {}  # with rows of topic `rows`
        self._next_seq = 0  # rows of topic `rows` with a smaller number have come, or were missed
        self._kept = _lines.Kept()

    def __repr__(self) -> str:
        return f"<moetrace.LiveTrace {self.trace_id}: {self.rows} rows, {self.rows_missed} missed>"

    @property
    def top_k(self) -> int:
        return self._reader.top_k

    @property
    def num_experts(self) -> Optional[int]:
        return self._reader.info().num_experts or None

    @property
    def num_layers(self) -> int:
        return self._reader.info().num_layers

    @property
    def collectors(self) -> int:
        return len(self._generations)

    @property
    def cost(self) -> Optional[Cost]:
        """What tracing took of the engine's threads.

        None: the trace has not ended, or does not say."""
        return _lines.cost_of(self.end)

    @property
    def losses(self) -> Sequence[LossLine]:
        return self._kept.losses

    @property
    def torn(self) -> Sequence[TornLine]:
        return self._kept.torn

    @property
    def controls(self) -> Sequence[ControlLine]:
        return self._kept.controls

    def steps(self) -> Steps:
        """The last 16,384 announced forward passes that have come, as columns."""
        return self._kept.steps()

    def requests(self) -> list[RequestInfo]:
        """Those of which something has come."""
        return [
            info._replace(req_id=self._names_sent.get(info.number, info.req_id))
            for info in self._reader.requests()
        ]

    def experts(self) -> Any:
        """How often each expert was picked in the rows that have come: int64 [num_layers,
        num_experts]."""
        return self._reader.experts()

    def req_id_of(self, number: int) -> Optional[str]:
        """The name of a request; None: it has none, or it has not come."""
        if number in self._names_sent:
            return self._names_sent[number]
        if number not in self._names:
            self._names.update(self._reader.req_ids(len(self._names)))
        return self._names.get(number)

    def take(self, topic: str, header: dict, payload: bytes) -> Optional[Batch]:
        """A message; the rows that are in it. Internal."""
        self._count_message(topic, header)
        if topic == "rows":
            return self._take_rows(header, payload)
        rows = header["count"] if topic == "route" else 0
        self._count_rows(rows, header)
        if topic == "stats":
            self.stats = _messages.stats(payload)
            return None
        return self._take_lines(rows, payload)

    def _count_rows(self, rows: int, header: dict) -> None:
        """`rows` have come with a message, as the last ones that its header counts."""
        delivered = header["delivered"]
        if self._seen is None:
            self.rows_before = self._seen = delivered - rows
        missed = delivered - rows - self._seen
        if missed >= 0:
            self.rows_missed += missed
        elif (
            rows
        ):  # they were in the counts of a message before, though they had not been published yet
            back = min(-missed, self.rows_missed)
            self.rows_missed -= back
            self.rows_before -= -missed - back
        if rows and not self.rows and self.rows_before and self.collectors == 1:
            # A late subscription to `route` may begin a moment after that to `meta`.
            self.rows_before += self.rows_missed
            self.rows_missed = 0
        self._seen = max(self._seen, delivered)
        # Lines say what was so before rows that have come already.
        self.totals = {name: max(header[name], self.totals.get(name, 0)) for name in TOTALS}

    def _count_message(self, topic: str, header: dict) -> None:
        """Numbers start at 0 with each collector; the first one that comes of a trace may be
        any."""
        generation, number = header["generation"], header["message"]
        if generation not in self._generations:
            self._next_message = dict.fromkeys(_messages.TOPICS, 0) if self._generations else {}
            self._generations.add(generation)
        self.messages_missed += max(0, number - self._next_message.get(topic, number))
        self._next_message[topic] = number + 1

    def _take_rows(self, header: dict, payload: bytes) -> Optional[Batch]:
        """A message of topic `rows`, without the rows that have come before."""
        self._names_sent.update(header["requests"])
        buffer = _rows.RowBuffer(header["count"], self.top_k)
        self._reader.read_message(payload, self._next_seq, buffer)
        if buffer.count == 0:
            return None
        self._count_rows(buffer.count, header)
        self.rows += buffer.count
        batch = buffer.batch(self)
        self._next_seq = int(batch.seq[-1]) + 1
        return batch

    def _take_lines(self, rows: int, payload: bytes) -> Optional[Batch]:
        if payload.startswith(
            b'{"type":"meta"'
        ):  # always the first; it comes again for every new subscriber
            payload = payload[payload.find(b"\n") + 1 or len(payload) :]
        buffer: Union[_rows.RowBuffer, _lines.LineBuffer] = (
            _rows.RowBuffer(rows, self.top_k)
            if rows
            else _lines.LineBuffer(_lines.kinds_of(()), payload.count(b"\n"))
        )
        text = numpy().frombuffer(payload, "uint8")
        place = _reader_library.Place(self._reader.counted().byte, 1)
        before = self._reader.end()
        taken, wrong = self._reader.read(text.ctypes.data, len(payload), place, buffer)
        came = buffer.count if rows else 0
        self.rows += came
        if isinstance(buffer, _lines.LineBuffer):
            self._kept.take(buffer.records)
        if wrong or taken < len(payload) or came < rows:
            self.rows_missed += rows - came
            raise ReadError(
                wrong.why if wrong else f"it has other rows than the {rows} that its header says"
            )
        last = self._reader.end()
        if last is not None and before is None:
            self._last, self._last_came = last, time.monotonic()
        return buffer.batch(self) if isinstance(buffer, _rows.RowBuffer) else None

    def is_over(self, silent: bool) -> bool:
        """True once: it has ended, and its last rows have come or are lost. `silent`: no message is
        there. Internal."""
        if self._last is None or self._seen is None or self.end is not None:
            return False
        final = (
            self.totals["attempted"]
            - self.totals["filtered"]
            - self.totals["dropped"]
            - self.totals["torn"]
        )
        late = silent and time.monotonic() - self._last_came > LAST_ROWS_S
        if final > self._seen and not late:
            return False
        self.rows_missed += max(0, final - self._seen)
        self._seen = max(final, self._seen)
        self.end = self._last
        return True
