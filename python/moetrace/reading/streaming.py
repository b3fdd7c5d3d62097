"""`stream`: what a collector publishes, as numpy arrays, and exactly what was missed of it."""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import Any, Iterator, Optional, Sequence, Union

from ..errors import ReadError
from ..recording._counts import Cost
from . import _endpoints, _lines, _reader_library, _rows
from ._lines import ControlLine, LossLine, Steps, TornLine
from ._reader_library import numpy
from ._rows import Batch, RequestInfo

_log = logging.getLogger("moetrace")

POLL_MS = 100
ASK_AGAIN_S = 1.0  # for the meta line of a trace that has sent rows without one
# A trace's end may come just before its last rows. Without a message for so long, these are lost.
LAST_ROWS_S = 1.0
MOST_MESSAGE_BYTES = 64 << 20  # a collector's have some 200 kB
TOTALS = ("attempted", "delivered", "filtered", "dropped", "torn")
TOPICS = ("route", "rows")  # from which a stream takes its rows


def default_endpoint(session: Optional[str] = None) -> str:
    """Where a collector of this session (MOETRACE_SESSION, else "default") publishes, as `moetrace
    status` shows it: the first endpoint that it has written down, else its own in the first folder
    that it could use."""
    session = session or os.environ.get("MOETRACE_SESSION") or "default"
    return _endpoints.listed(session) or _endpoints.default(session)


def stream(
    endpoint: Optional[str] = None,
    *,
    timeout: Optional[float] = None,
    queue: int = 10000,
    num_experts: Optional[int] = None,
    topic: str = "route",
) -> "Stream":
    """Listens to a collector, which may also start later. endpoint: a collector's; None:
    `default_endpoint()`. timeout: seconds without a message after which the iteration ends; None:
    it waits. queue: how many messages, of up to about a thousand rows, may wait here before some
    are missed; 0: no limit. num_experts: for traces that don't say it. topic: "route" takes rows as
    lines, once they are in the trace's file; "rows" takes them as columns, which are smaller and
    faster to read, and come within milliseconds, also from `moetraced --rows arrow`, whose file
    gets them up to a second later. A collector older than 0.2 has no "rows".

    Where no collector publishes at an ipc:// endpoint yet, one line of the logger "moetrace" says
    so, and the stream waits. ReadError, with one line, without pyzmq and for an endpoint that
    ZeroMQ refuses.
    """
    if topic not in TOPICS:
        raise ValueError(f"topic is {topic!r}; it must be one of {', '.join(TOPICS)}")
    return Stream(endpoint or default_endpoint(), timeout, queue, num_experts, topic)


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
            self.stats = _stats(payload)
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
            self._next_message = (
                dict.fromkeys(("meta", "route", "rows", "stats"), 0) if self._generations else {}
            )
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


class Stream:
    """Iterates over the batches of all traces that a collector publishes: `for batch in stream`. A
    batch without rows comes when its trace has ended (`batch.trace.end`). The iteration ends after
    `timeout` or `stop`, and may be taken up again.

    traces: `LiveTrace` by trace id, also those that have ended, until you remove them. A collector
    never waits: a slow reader misses messages, and each trace says how many rows these had
    (`rows_missed`).

    A message that no collector sends raises ReadError; iterate again to go on after it. One thread
    may iterate; `stop` may be called from any, and from a signal handler.
    """

    def __init__(
        self,
        endpoint: str,
        timeout: Optional[float],
        queue: int,
        num_experts: Optional[int],
        topic: str,
    ):
        self.endpoint, self.timeout = endpoint, timeout
        self.traces: dict[str, LiveTrace] = {}
        self._num_experts = num_experts
        self._stopped = False
        self._asked = time.monotonic()
        self._socket: Any = None  # a zmq.Socket; None: closed
        numpy()
        _reader_library.load()
        try:
            import zmq
        except ImportError:
            raise ReadError(
                "moetrace: live traces need pyzmq, which is not installed; pip install pyzmq"
            ) from None
        self._zmq_error = zmq.ZMQError
        self._context: Any = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, queue)
        self._socket.setsockopt(zmq.MAXMSGSIZE, MOST_MESSAGE_BYTES)
        self._subscribe_option = zmq.SUBSCRIBE
        try:
            for name in ("meta", topic, "stats"):  # meta lines are to come before rows
                self._socket.setsockopt(zmq.SUBSCRIBE, name.encode())
            self._socket.connect(endpoint)
        except self._zmq_error as error:
            self.close()
            raise ReadError(f"{endpoint}: {error}; `moetrace status` shows the endpoint") from None
        why = _unheard(endpoint)
        if why:
            _log.warning(
                "moetrace: %s: %s; waiting for a collector; `moetrace status` shows its endpoint",
                endpoint,
                why,
            )

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        silent, silent_since = False, time.monotonic()
        poll_ms = POLL_MS if self.timeout is None else min(POLL_MS, self.timeout * 1000)
        while True:
            over = next(
                (trace for trace in list(self.traces.values()) if trace.is_over(silent)), None
            )
            if over is not None:
                return Batch(over, _rows.empty_columns(0, over.top_k))
            late = (
                silent
                and self.timeout is not None
                and time.monotonic() - silent_since >= self.timeout
            )
            if late or self._stopped or self._socket is None:
                self._stopped = False
                raise StopIteration
            silent = self._socket.poll(poll_ms) == 0
            if not silent:
                silent_since = time.monotonic()
                batch = self._receive()
                if batch is not None:
                    return batch

    def stop(self) -> None:
        """Ends the iteration within a tenth of a second."""
        self._stopped = True

    def close(self) -> None:
        """Disconnects; a second call does nothing."""
        self._stopped = True
        socket, self._socket = self._socket, None
        if socket is not None:
            socket.close()
            self._context.term()

    def _receive(self) -> Optional[Batch]:
        frames = self._socket.recv_multipart()
        try:
            topic, header, payload = _parts(frames)
            trace = self._trace_of(topic, header, payload)
            return trace.take(topic, header, payload) if trace else None
        except ReadError as error:
            raise ReadError(
                f"{self.endpoint}: not a message of a collector: {error}; "
                "`moetrace status` shows the endpoint"
            ) from None

    def _trace_of(self, topic: str, header: dict, payload: bytes) -> Optional[LiveTrace]:
        """The message's trace; None as long as its meta line has not come."""
        trace = self.traces.get(header["trace_id"])
        if trace is None and topic == "meta" and payload.startswith(b'{"type":"meta"'):
            trace = LiveTrace(header["trace_id"], payload[: payload.find(b"\n")], self._num_experts)
            self.traces[header["trace_id"]] = trace
        if trace is None and time.monotonic() - self._asked > ASK_AGAIN_S:
            self._asked = time.monotonic()
            self._socket.setsockopt(
                self._subscribe_option, b"meta"
            )  # each new one makes the meta lines go out again
        return trace


def _unheard(endpoint: str) -> Optional[str]:
    """Why no collector can be heard at an ipc:// endpoint yet. ZeroMQ itself tries for ever, and
    says nothing."""
    if not endpoint.startswith("ipc://"):
        return None
    name = endpoint.removeprefix("ipc://")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect("\0" + name[1:] if name.startswith("@") else name)
        except BlockingIOError:  # many are about to connect
            return None
        except (FileNotFoundError, ConnectionRefusedError):
            return "no collector publishes there yet"
        except OSError as error:
            return error.strerror
    return None


def _parts(frames: list[bytes]) -> tuple[str, dict, bytes]:
    if len(frames) != 3:
        raise ReadError(f"it has {len(frames)} frames instead of 3")
    if frames[0] not in (b"route", b"rows", b"meta", b"stats"):
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


def _stats(payload: bytes) -> dict:
    stats = _rows.load_json(payload, "its statistics")
    try:
        counts = numpy().array(stats["counts"], "int64")
        if counts.ndim != 2:
            raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ReadError("its statistics have no counts [layers][experts]") from None
    return {**stats, "counts": counts}
