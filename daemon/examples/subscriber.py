#!/usr/bin/python3
"""Listens to a moetrace collector with plain pyzmq, and says exactly what it missed.

    subscriber.py                                                 # the default collector's; Ctrl-C ends it, with a line a trace
    subscriber.py ipc:///run/moetrace/default.pub                 # what `moetrace status` shows
    subscriber.py ENDPOINT --output rows.jsonl --until-end        # keeps the rows, stops when a trace has ended

A collector never waits for a subscriber: who is too slow misses messages. Each message therefore says how many rows the trace
has had so far (`delivered`), so that `delivered` minus what arrived is what was missed, to the row, also across a restart of
the collector. A message has three frames: the topic (`route`, `meta`, `stats`), a small JSON header, and lines of the trace.
"""
import argparse
import json
import os
import pathlib
import signal
import socket as sockets
import sys
import time

try:
    import zmq
except ImportError:
    sys.exit("subscriber: this Python has no pyzmq; run it with Debian's (python3-zmq): /usr/bin/python3, or pip install pyzmq")

POLL_MS = 100
CONNECT_PATIENCE_S = 3


class Account:
    """What arrived of one trace, and what did not."""

    def __init__(self, trace_id):
        self.trace_id = trace_id
        self.model_id = None
        self.rows = 0
        self.messages_missed = 0
        self.generations = set()
        self.ended = False
        self._rows_before = None  # rows that the trace had when we came
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
        if self._rows_before is None:
            self._rows_before = header["delivered"] - arrived
        self._rows_so_far = header["delivered"]
        self.rows += arrived
        self._count_message(topic, header)
        if topic == "meta":
            for line in map(json.loads, payload.splitlines()):
                self.ended = self.ended or line["type"] == "end"
                self.model_id = line.get("model_id", self.model_id)

    def _count_message(self, topic, header):
        """Numbers start at 0 with each collector; the first one that we see of a trace may be any."""
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
        return {"trace_id": self.trace_id, "model_id": self.model_id, "rows": self.rows, "rows_missed": self.rows_missed,
                "rows_before": self.rows_before, "messages_missed": self.messages_missed,
                "collectors": len(self.generations), "ended": self.ended}


def text_of(summary):
    before = f", {summary['rows_before']} before it came" if summary["rows_before"] else ""
    return (f"subscriber: trace {summary['trace_id']}: got {summary['rows']} rows, missed {summary['rows_missed']}{before}"
            f" ({'ended' if summary['ended'] else 'still running'})")


def nobody_listens(endpoint):
    """Whether it is the file of a socket that nobody listens on; of other transports that can't be said at once."""
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
    """Says once that a socket has found no publisher yet."""

    def __init__(self, socket, endpoint):
        """To be made before the socket connects."""
        self._endpoint = endpoint
        self._events = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._done = False
        self._patience_ends = time.monotonic() + (0 if nobody_listens(endpoint) else CONNECT_PATIENCE_S)

    def look(self):
        if self._done:
            return
        connected = self._events.poll(0) != 0
        self._done = connected or time.monotonic() >= self._patience_ends
        if self._done and not connected:
            print(f"subscriber: nobody publishes on {self._endpoint} yet; start moetraced, or give the endpoint that `moetrace status`"
                  " shows; waiting", file=sys.stderr, flush=True)


def listen(socket, watch, options, stopped):
    """Takes messages until it is told to stop, by a signal or by an option; returns the accounts."""
    accounts = {}
    silent_ms = 0
    output = open(options.output, "wb", buffering=0) if options.output else None  # whole lines, so that `tail -f` works
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
        account = accounts.setdefault(header["trace_id"], Account(header["trace_id"]))
        account.take(topic, header, payload)
        if output and topic == "route":
            output.write(payload)
        if options.until_end and account.ended:
            break
        if options.count is not None and sum(a.rows for a in accounts.values()) >= options.count:
            break
    if output:
        output.close()
    return accounts


def default_endpoint():
    """Where a collector publishes if it isn't told: its socket is in the first of these directories that it could use."""
    private = os.environ.get("XDG_RUNTIME_DIR")
    fallback = f"{os.environ.get('TMPDIR') or '/tmp'}/moetrace-{os.getuid()}"
    folders = ["/run/moetrace", f"{private}/moetrace" if private else fallback, f"/tmp/moetrace-{os.getuid()}"]
    sockets = [f"{folder}/{os.environ.get('MOETRACE_SESSION') or 'default'}.pub" for folder in folders]
    return "ipc://" + next((path for path in sockets if pathlib.Path(path).exists()), sockets[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("endpoint", nargs="?", default=default_endpoint(), help="default: %(default)s")
    parser.add_argument("--output", metavar="FILE", help="write the route lines here")
    parser.add_argument("--until-end", action="store_true", help="stop when a trace has ended")
    parser.add_argument("--count", type=int, metavar="N", help="stop after N rows")
    parser.add_argument("--idle", type=float, metavar="S", help="stop after S seconds without a message")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON, a line a trace")
    options = parser.parse_args()

    stopped = []  # not empty: a signal came
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append(True))

    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    # What we may fall behind before messages are lost; a message holds up to about a thousand rows.
    socket.setsockopt(zmq.RCVHWM, 10000)
    for topic in (b"route", b"meta"):
        socket.setsockopt(zmq.SUBSCRIBE, topic)
    try:
        watch = ConnectionWatch(socket, options.endpoint)
        socket.connect(options.endpoint)
        accounts = listen(socket, watch, options, stopped)
    except (zmq.ZMQError, OSError) as error:
        print(f"subscriber: {options.endpoint}: {error}; see `moetrace status` for the endpoint", file=sys.stderr)
        return 1
    finally:
        context.destroy(linger=0)
    for account in accounts.values():
        print(json.dumps(account.summary()) if options.json else text_of(account.summary()))
    if not accounts:
        print("subscriber: no trace was seen", file=sys.stderr)
        return 69
    return 0


if __name__ == "__main__":
    sys.exit(main())
