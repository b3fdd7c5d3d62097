#!/usr/bin/python3
"""Listens to a moetrace collector with plain pyzmq, and says exactly what it missed.

    subscriber.py                   # the session "default"; Ctrl-C prints one line for each trace
    subscriber.py --session NAME    # the collector of another session
    subscriber.py ENDPOINT          # an endpoint that `moetrace status` shows
    subscriber.py --output rows.jsonl --until-end    # keeps the rows, stops when a trace has ended

A collector never waits for a subscriber: a slow one misses messages. So each message carries the
rows that the trace has had so far (`delivered`). `delivered` minus the rows that arrived is what
was missed, to the row, also across a restart of the collector. A message has three frames: the
topic (`route`, `meta`, `stats`), a small JSON header, and lines of the trace.

A collector lists its endpoints in a file. find_endpoint() reads it, like `moetrace status` and
`moetrace.stream`.
"""

import argparse
import fcntl
import json
import os
import signal
import socket as sockets
import stat
import struct
import sys
import time

try:
    import zmq
except ImportError:
    sys.exit(
        "subscriber: this Python has no pyzmq; "
        "run it with Debian's (python3-zmq): /usr/bin/python3, or pip install pyzmq"
    )

POLL_MS = 100
CONNECT_PATIENCE_S = 3
MOST_SOCKET_PATH = 107  # bytes of a socket's path, without its zero
MOST_LIST_BYTES = 64 << 10
SERVICE_FOLDER = "/run/moetrace"


def ours_or_root(uid):
    return uid in (0, os.geteuid())


def for_a_group(folder):
    """The folder of the system service is set-group-id."""
    return folder.st_mode & stat.S_ISGID and ours_or_root(folder.st_uid)


def trusted_parent(folder):
    parent = os.stat(os.path.dirname(folder))
    return ours_or_root(parent.st_uid) and (
        not parent.st_mode & stat.S_IWOTH or parent.st_mode & stat.S_ISVTX
    )


def trusted(folder):
    """Whether only we, root or the service's group can put files there."""
    try:
        status = os.lstat(folder)
        if not stat.S_ISDIR(status.st_mode):
            return False
        if for_a_group(status):
            return not status.st_mode & stat.S_IWOTH
        ours_alone = status.st_uid == os.geteuid() and not status.st_mode & 0o022
        return ours_alone and trusted_parent(folder)
    except OSError:
        return False


def usable(folder):
    """Whether a collector could make its socket there."""
    try:
        if os.path.lexists(folder):
            return trusted(folder) and os.access(folder, os.W_OK | os.X_OK)
        return os.access(os.path.dirname(folder), os.W_OK | os.X_OK) and trusted_parent(folder)
    except OSError:
        return False


def runtime_folders():
    """A collector keeps its socket and its endpoint list in the first of these that it can use."""
    own = f"moetrace-{os.getuid()}"
    runtime, temporary = os.environ.get("XDG_RUNTIME_DIR"), os.environ.get("TMPDIR")
    folders = [SERVICE_FOLDER] if os.access(SERVICE_FOLDER, os.R_OK | os.X_OK) else []
    if runtime or temporary:
        folders.append(f"{runtime}/moetrace" if runtime else f"{temporary}/{own}")
    if folders[-1:] != [f"/tmp/{own}"]:
        folders.append(f"/tmp/{own}")
    return folders


def locked(descriptor):
    """Whether the list's collector is alive: its lock on the first byte ends with the process."""
    question = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, question)
    except (AttributeError, OSError):  # the file system has no such locks
        return True
    return struct.unpack("hhqqi4x", answer)[0] != fcntl.F_UNLCK


def listed_endpoints(folder, session):
    """The endpoints of the session's collector; all of them are one socket."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        with open(
            f"{folder}/{session}.endpoint", "rb", opener=lambda path, _: os.open(path, flags)
        ) as file:
            status = os.fstat(file.fileno())
            ours = ours_or_root(status.st_uid) or for_a_group(os.lstat(folder))
            if stat.S_ISREG(status.st_mode) and ours and locked(file.fileno()):
                return file.read(MOST_LIST_BYTES).decode(errors="replace").splitlines()
    except (OSError, ValueError):
        pass
    return []


def find_endpoint(session):
    """The first endpoint in the list of the session's collector. Without a list: the endpoint that
    a collector without --publish would choose."""
    for folder in filter(trusted, runtime_folders()):
        endpoints = listed_endpoints(folder, session)
        if endpoints:
            return endpoints[0]
    for folder in runtime_folders():
        path = f"{folder}/{session}.pub"
        if usable(folder) and len(os.fsencode(path)) <= MOST_SOCKET_PATH:
            break
    return f"ipc://{path}"


class Received:
    """What arrived of one trace, and what was missed."""

    def __init__(self, trace_id):
        self.trace_id = trace_id
        self.model_id = None
        self.rows = 0
        self.messages_missed = 0
        self.generations = set()
        self.ended = False
        self._rows_before = None  # of the trace, before the first rows came
        self._rows_so_far = 0
        self._next_message = {}  # topic -> number

    @property
    def rows_missed(self):
        return 0 if self._rows_before is None else self._rows_so_far - self._rows_before - self.rows

    @property
    def rows_before(self):
        return self._rows_before or 0

    def take(self, topic, header, payload):
        arrived = header["count"] if topic == "route" else 0
        self._count_message(topic, header)
        # A late subscription to `route` may begin a moment after that to `meta`.
        came_late = self._rows_before and arrived and not self.rows and len(self.generations) == 1
        if self._rows_before is None or came_late:
            self._rows_before = header["delivered"] - arrived
        self._rows_so_far = header["delivered"]
        self.rows += arrived
        if topic == "meta":
            for line in map(json.loads, payload.splitlines()):
                self.ended = self.ended or line["type"] == "end"
                self.model_id = line.get("model_id", self.model_id)

    def _count_message(self, topic, header):
        """Numbers start at 0 with each collector; our first message of a trace may have any."""
        generation, number = header["generation"], header["message"]
        if generation not in self.generations:
            first = number if not self.generations else 0
            self.generations.add(generation)
            self._next_message = {}
        else:
            first = number
        expected = self._next_message.get(topic, first)
        self.messages_missed += number - expected
        self._next_message[topic] = number + 1

    def summary(self):
        return {
            "trace_id": self.trace_id,
            "model_id": self.model_id,
            "rows": self.rows,
            "rows_missed": self.rows_missed,
            "rows_before": self.rows_before,
            "messages_missed": self.messages_missed,
            "collectors": len(self.generations),
            "ended": self.ended,
        }


def text_of(summary):
    before = f", {summary['rows_before']} before it came" if summary["rows_before"] else ""
    return (
        f"subscriber: trace {summary['trace_id']}: got {summary['rows']} rows, "
        f"missed {summary['rows_missed']}{before}"
        f" ({'ended' if summary['ended'] else 'still running'})"
    )


def is_dead_socket(endpoint):
    """Whether the endpoint is a socket file without a listener. False for other transports."""
    path = endpoint.removeprefix("ipc://")
    if path == endpoint or path.startswith("@"):
        return False
    with sockets.socket(sockets.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return True
    return False


class ConnectionWatch:
    """Says once that a socket has found no publisher yet. Make it before the socket connects."""

    def __init__(self, socket, endpoint):
        self._endpoint = endpoint
        self._events = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._done = False
        self._patience_ends = time.monotonic() + (
            0 if is_dead_socket(endpoint) else CONNECT_PATIENCE_S
        )

    def look(self):
        if self._done:
            return
        connected = self._events.poll(0) != 0
        self._done = connected or time.monotonic() >= self._patience_ends
        if self._done and not connected:
            print(
                f"subscriber: no collector publishes on {self._endpoint} yet; "
                "start moetraced, or give the endpoint that "
                "`moetrace status` shows; waiting",
                file=sys.stderr,
                flush=True,
            )


def listen(socket, watch, options, stopped):
    """Takes messages until a signal or an option stops it; returns what each trace received."""
    traces = {}
    silent_ms = 0
    output = (
        open(options.output, "wb", buffering=0) if options.output else None
    )  # whole lines, so that `tail -f` works
    while not stopped:
        watch.look()
        if socket.poll(POLL_MS) == 0:
            silent_ms += POLL_MS
            if options.idle is not None and silent_ms >= options.idle * 1000:
                break
            continue
        silent_ms = 0
        topic, header, payload = socket.recv_multipart()
        topic, header = topic.decode(), json.loads(header)
        trace = traces.setdefault(header["trace_id"], Received(header["trace_id"]))
        trace.take(topic, header, payload)
        if output and topic == "route":
            output.write(payload)
        if options.until_end and trace.ended:
            break
        if options.count is not None and sum(one.rows for one in traces.values()) >= options.count:
            break
    if output:
        output.close()
    return traces


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "endpoint", nargs="?", help="without it: the endpoint of the session's collector"
    )
    parser.add_argument(
        "--session",
        default=os.environ.get("MOETRACE_SESSION") or "default",
        help="without it: $MOETRACE_SESSION or default",
    )
    parser.add_argument("--output", metavar="FILE", help="write the route lines here")
    parser.add_argument("--until-end", action="store_true", help="stop when a trace has ended")
    parser.add_argument("--count", type=int, metavar="N", help="stop after N rows")
    parser.add_argument(
        "--idle", type=float, metavar="S", help="stop after S seconds without a message"
    )
    parser.add_argument(
        "--json", action="store_true", help="print the summary as JSON, a line a trace"
    )
    options = parser.parse_args()
    endpoint = options.endpoint or find_endpoint(options.session)

    stopped = []  # not empty: a signal came
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append(True))

    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    # Messages to hold before some are lost; a message has up to about a thousand rows.
    socket.setsockopt(zmq.RCVHWM, 10000)
    for topic in (b"route", b"meta"):
        socket.setsockopt(zmq.SUBSCRIBE, topic)
    try:
        watch = ConnectionWatch(socket, endpoint)
        socket.connect(endpoint)
        traces = listen(socket, watch, options, stopped)
    except (zmq.ZMQError, OSError) as error:
        print(
            f"subscriber: {endpoint}: {error}; see `moetrace status` for the endpoint",
            file=sys.stderr,
        )
        return 1
    finally:
        context.destroy(linger=0)
    for trace in traces.values():
        print(json.dumps(trace.summary()) if options.json else text_of(trace.summary()))
    if not traces:
        print(
            f"subscriber: no trace was seen on {endpoint}; see `moetrace status` for live traces",
            file=sys.stderr,
        )
        return 69
    return 0


if __name__ == "__main__":
    sys.exit(main())
