"""`stream`: what a collector publishes, as numpy arrays, and exactly what was missed of it."""

from __future__ import annotations

import logging
import os
import socket
import time
from typing import Any, Iterator, Optional

from ..errors import ReadError
from . import _endpoints, _messages, _reader_library, _rows
from ._live_trace import LiveTrace
from ._reader_library import numpy
from ._rows import Batch

_log = logging.getLogger("moetrace")

POLL_MS = 100
ASK_AGAIN_S = 1.0  # for the meta line of a trace that has sent rows without one
MOST_MESSAGE_BYTES = 64 << 20  # a collector's have some 200 kB
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
            topic, header, payload = _messages.parts(frames)
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
