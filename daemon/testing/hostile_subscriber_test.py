"""Hostile subscribers: the file still grows, and memory stays bounded.

Honest readers are served, and one line reports each hostile subscriber."""

import itertools
import os
import pathlib
import socket
import struct
import threading
import unittest

import zmq
from harness import Case, Collector, Replay, make_steps, meta_line, routes_in, wait_until

MOST_GROWTH_KB = 300 << 10  # bytes sent before a connection is shut, and the pages of the ring
ROWS = 20_000


def frame(body, more=False):
    if len(body) < 256:
        return bytes([int(more), len(body)]) + body
    return bytes([int(more) | 2]) + struct.pack(">Q", len(body)) + body


def receive(connection, size):
    got = b""
    while len(got) < size:
        part = connection.recv(size - len(got))
        if not part:
            raise ConnectionResetError
        got += part
    return got


def greet_3_0(connection):
    connection.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
    ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 3) + b"SUB"
    connection.sendall(bytes([4, len(ready)]) + ready)
    # The protocol forbids messages before the other side is ready.
    receive(connection, 64)
    receive(connection, receive(connection, 2)[1])


def greet_2_0(connection):
    connection.sendall(b"\xff" + bytes(7) + b"\x01\x7f" + b"\x01\x02" + frame(b""))


class Hostile(threading.Thread):
    """Until it is stopped: connects, sends the bytes of `make`, reconnects when disconnected."""

    def __init__(self, path, make, greet=greet_3_0):
        super().__init__()
        self.path, self.make, self.greet = path, make, greet
        self.stopped = threading.Event()
        self.connections = 0

    def run(self):
        while not self.stopped.is_set():
            with socket.socket(socket.AF_UNIX) as connection:
                try:
                    connection.connect(str(self.path))
                    self.connections += 1
                    connection.settimeout(1)
                    self.greet(connection)
                    while not self.stopped.is_set():
                        self.send(connection)
                except OSError:
                    pass

    def send(self, connection):
        connection.sendall(self.make())

    def stop(self):
        self.stopped.set()
        self.join()


class HostileSubscribers(Case):
    def setUp(self):
        super().setUp()
        self.path = self.folder / "pub"
        self.collector = Collector(self, "--output-dir", self.traces, publish=f"ipc://{self.path}")
        self.replay = Replay(self)
        self.replay.feed(meta_line([0, 1, 2, 5]))
        [self.file] = wait_until(self.trace_files, "no trace file")
        self.steps = make_steps(21, 1 << 40)
        self.fed = 0

    def memory_kb(self):
        """Private memory of the collector, without its rings."""
        status = pathlib.Path(f"/proc/{self.collector.process.pid}/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0])

    def attack(self, make, greet=greet_3_0, count=1):
        attackers = [Hostile(self.path, make, greet) for _ in range(count)]
        for attacker in attackers:
            self.addCleanup(attacker.stop)
            attacker.start()
        return attackers

    def feed_all_the_while(self, rows=ROWS):
        """Feeds rows in portions, each once the previous one is in the file.

        Memory must not grow."""
        before = self.memory_kb()
        end = self.fed + rows
        while self.fed < end:
            portion = "".join(itertools.islice(self.steps, 50))
            self.replay.feed(portion)
            self.fed += portion.count("\n")

            def written():
                self.assertLess(self.memory_kb() - before, MOST_GROWTH_KB, "memory grows")
                return routes_in(self.file) >= self.fed - 1_000

            wait_until(written, "the file does not grow")

    def listen(self):
        context = zmq.Context()
        self.addCleanup(context.destroy, 0)
        listener = context.socket(zmq.SUB)
        self.addCleanup(listener.close, 0)
        listener.setsockopt(zmq.SUBSCRIBE, b"")
        listener.connect(f"ipc://{self.path}")
        self.assertTrue(listener.poll(60_000), "an honest subscriber gets nothing")
        self.assertEqual(listener.recv_multipart()[0], b"meta")
        return listener

    def said(self):
        return [
            line
            for line in self.collector.stderr().splitlines()
            if "disconnected a subscriber" in line
        ]

    def finish(self, said=1):
        self.assertEqual(self.replay.wait(), 0, self.replay.stderr())
        self.wait_drained()
        done = self.check(self.file)
        self.assertEqual((done.dropped, done.torn), (0, 0))
        self.assertEqual(self.collector.stop(), 0, self.collector.stderr())
        self.assertEqual(len(self.said()), said, self.collector.stderr())

    def endure(self, make, greet=greet_3_0, count=1, said=1):
        listener = self.listen()
        attackers = self.attack(make, greet, count)
        wait_until(
            lambda: (
                all(attacker.connections > 1 for attacker in attackers) and len(self.said()) == said
            ),
            "no attacker is thrown out",
        )
        self.feed_all_the_while()
        while listener.poll(0):
            listener.recv_multipart()
        # Under attack it still gets new rows.
        self.feed_all_the_while(rows=2_000)
        self.assertTrue(listener.poll(60_000), "an honest subscriber gets nothing more")
        for attacker in attackers:
            attacker.stop()
        self.finish(said)

    def test_subscribes_and_unsubscribes_for_ever(self):
        portion = (frame(b"\1x") + frame(b"\0x")) * 2_000
        self.endure(lambda: portion)
        # It breaks both limits, and a busy collector may see the second one first.
        self.assertRegex(
            self.said()[0],
            rf"\(pid {os.getpid()}, uid {os.getuid()}\): "
            "it (sent more subscriptions than a reader of three "
            r"topics needs|sends without an end)",
        )

    def test_asks_for_meta_for_ever(self):
        portion = (frame(b"\1meta") + frame(b"\0meta")) * 2_000
        self.endure(lambda: portion, count=3)

    def test_random_topics(self):
        self.endure(lambda: b"".join(frame(b"\1" + os.urandom(200)) for _ in range(200)))

    def test_topics_of_a_megabyte(self):
        portion = frame(b"\1" + b"y" * (1 << 20))
        self.endure(lambda: portion, said=0)  # libzmq itself ends such connections

    def test_a_message_without_an_end(self):
        portion = frame(b"\1" + b"z" * 200, more=True) * 200
        self.endure(lambda: portion)
        self.assertIn("it sends without an end", self.said()[0])

    def test_an_old_protocol_does_not_say_who_it_is(self):
        portion = b"".join(frame(b"\1" + os.urandom(100)) for _ in range(2_000))
        self.endure(lambda: portion, greet=greet_2_0)

    def test_a_crowd(self):
        crowd = []
        for _ in range(400):
            connection = socket.socket(socket.AF_UNIX)
            self.addCleanup(connection.close)
            connection.connect(str(self.path))
            crowd.append(connection)
        descriptors = pathlib.Path(f"/proc/{self.collector.process.pid}/fd")
        wait_until(self.said, "the crowd is let in")
        wait_until(lambda: len(list(descriptors.iterdir())) < 300, "its connections stay")
        self.feed_all_the_while()
        for connection in crowd:
            connection.close()
        self.listen()
        self.finish()


if __name__ == "__main__":
    unittest.main(verbosity=2)
