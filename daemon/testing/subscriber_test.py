"""Real ZeroMQ subscribers, with plain pyzmq and with the shipped example."""

import collections
import itertools
import json
import socket
import subprocess
import sys
import threading
import unittest

import zmq
from harness import (
    SUBSCRIBER,
    TIMEOUT_S,
    Case,
    Collector,
    Replay,
    load_module,
    make_steps,
    meta_line,
    routes_in,
    wait_until,
)

LATE_SUBSCRIBERS = 1000


def free_port():
    """A free port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Listener:
    """A SUB socket that collects whole messages."""

    def __init__(
        self, case, endpoint, *, topics=(b"meta", b"route", b"stats"), rcvhwm=0, context=None
    ):
        self.socket = (context or zmq.Context()).socket(zmq.SUB)
        self.socket.setsockopt(zmq.RCVHWM, rcvhwm)
        for topic in topics:
            self.socket.setsockopt(zmq.SUBSCRIBE, topic)
        self.socket.connect(endpoint)
        self.messages = []
        if context is None:
            case.addCleanup(self.socket.context.term)
        case.addCleanup(self.close)

    def close(self):
        self.socket.close(0)

    def read(self):
        """The next message: topic, header, lines."""
        if self.socket.poll(TIMEOUT_S * 1000) == 0:
            raise AssertionError("no message came")
        topic, header, payload = self.socket.recv_multipart()
        assert payload.endswith(b"\n") or topic == b"rows"
        self.messages.append((topic, json.loads(header), payload))
        return self.messages[-1]

    def read_until(self, kind):
        """Reads until a line of this type has come; returns the line."""
        while True:
            for line in map(json.loads, self.read()[2].splitlines()):
                if line["type"] == kind:
                    return line

    def lines(self, topic):
        return b"".join(payload for name, _, payload in self.messages if name == topic)

    def rows(self):
        return self.lines(b"route").count(b"\n")


class Subscribers(Case):
    def setUp(self):
        super().setUp()
        self.endpoint = f"ipc://{self.folder}/pub"

    def start_collector(self):
        return Collector(self, "--output-dir", self.traces, publish=self.endpoint)

    def start_fed_trace(self):
        """A live trace without rows; its first line is in the file."""
        replay = Replay(self)
        replay.feed(meta_line([0, 1, 2, 5]))
        [path] = wait_until(self.trace_files, "no trace file")
        wait_until(lambda: path.read_bytes().endswith(b"\n"), "no first line")
        return replay, path

    def start_example(self, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-B", SUBSCRIBER, self.endpoint, "--json", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def example_says(self, process):
        out, err = process.communicate(timeout=TIMEOUT_S)
        self.assertEqual((process.returncode, err), (0, ""))
        return [json.loads(line) for line in out.splitlines()]

    def feed_until_heard(self, replay, steps, rows_file):
        """Feeds step by step until the example gets new rows."""
        size = rows_file.stat().st_size if rows_file.exists() else 0

        def heard():
            replay.feed(next(steps))
            return rows_file.exists() and rows_file.stat().st_size > size

        wait_until(heard, "the example gets nothing")

    def test_every_row_comes_and_is_numbered(self):
        self.start_collector()
        replay, path = self.start_fed_trace()
        listener = Listener(self, self.endpoint)
        listener.read_until("meta")  # from here on it is subscribed
        subscribed = len(listener.messages)
        fed = 0
        for step in make_steps(1, 20_000):
            replay.feed(step)
            fed += step.count("\n")
            # Stay within the collector's queue. The last step may wait for the next one.
            while listener.rows() < fed - 1_000:
                listener.read()
        self.assertEqual(replay.wait(), 0, replay.stderr())
        end = listener.read_until("end")
        self.wait_drained()

        file_lines = path.read_bytes().splitlines(keepends=True)
        routes = b"".join(line for line in file_lines if line.startswith(b'{"type":"route"'))
        others = [
            line
            for line in file_lines
            if not line.startswith((b'{"type":"route"', b'{"type":"meta"'))
        ]
        self.assertEqual(listener.lines(b"route"), routes)
        published = [
            line
            for line in listener.lines(b"meta").splitlines(keepends=True)
            if b'"type":"meta"' not in line
        ]
        self.assertEqual(published, others)
        self.assertEqual(end["delivered"], routes.count(b"\n"))

        delivered, numbers = 0, {}
        for topic, header, payload in listener.messages[subscribed:]:
            self.assertEqual(header["trace_id"], path.stem)
            self.assertEqual(header["message"], numbers.get(topic, header["message"]))
            numbers[topic] = header["message"] + 1
            self.assertEqual(header["count"], payload.count(b"\n"))
            if topic == b"route":
                delivered += header["count"]
                self.assertEqual(header["first_seq"], json.loads(payload.splitlines()[0])["seq"])
            self.assertEqual(header["delivered"], delivered)
            self.assertEqual(header["dropped"], 0)

    def feed_for_ever(self, replay):
        """Feeds steps of one row, in a thread, until the end of the test."""
        stop = threading.Event()

        def feed():
            steps = make_steps(2, 1 << 40, layers=(0,), requests=1)
            while not stop.is_set():
                replay.feed("".join(itertools.islice(steps, 100)))

        thread = threading.Thread(target=feed)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(stop.set)

    def test_late_subscribers_get_meta_first(self):
        """They come while rows flow: some read, some leave at once, several connect at a time."""
        self.start_collector()
        replay, path = self.start_fed_trace()
        meta = path.read_bytes().splitlines(keepends=True)[0]
        self.feed_for_ever(replay)
        wait_until(lambda: routes_in(path) > 100, "no rows in the file")
        context = zmq.Context()
        self.addCleanup(context.destroy, 0)
        present = collections.deque()
        for number, topics in zip(
            range(LATE_SUBSCRIBERS),
            itertools.cycle([(b"meta",), (b"",), (b"route", b"meta"), (b"m",)]),
        ):
            Listener(self, self.endpoint, topics=topics, context=context).close()
            listener = Listener(self, self.endpoint, topics=topics, context=context)
            topic, header, payload = listener.read()
            while topic != b"meta":
                topic, header, payload = listener.read()
            self.assertTrue(payload.startswith(meta), (number, topics, payload[:300]))
            self.assertEqual(header["count"], payload.count(b"\n"))
            present.append(listener)
            if len(present) > 5:
                present.popleft().close()

    def test_meta_comes_to_all_of_topic_meta_and_to_no_other(self):
        self.start_collector()
        _, path = self.start_fed_trace()
        meta = path.read_bytes()
        first = Listener(self, self.endpoint, topics=(b"meta",))
        self.assertEqual(first.read()[2], meta)
        routes = Listener(self, self.endpoint, topics=(b"route",))
        # A second subscriber: both get the line again.
        second = Listener(self, self.endpoint, topics=(b"meta",))
        self.assertEqual(second.read()[2], meta)
        self.assertEqual(first.read()[2], meta)
        self.assertEqual(routes.socket.poll(0), 0)

    def test_meta_comes_again_from_the_next_collector(self):
        collector = self.start_collector()
        replay, path = self.start_fed_trace()
        self.feed_for_ever(replay)
        wait_until(lambda: routes_in(path) > 100, "no rows in the file")
        meta = path.read_bytes().splitlines(keepends=True)[0]
        listener = Listener(self, self.endpoint, topics=(b"meta",))
        self.assertTrue(listener.read()[2].startswith(meta))
        collector.kill()
        self.start_collector()
        while listener.read()[1]["generation"] == 1:
            pass
        self.assertTrue(listener.messages[-1][2].startswith(meta))

    def test_stats_count_the_rows(self):
        self.start_collector()
        replay, path = self.start_fed_trace()
        listener = Listener(self, self.endpoint, topics=(b"stats", b"meta"))
        listener.read_until("meta")
        replay.feed("".join(make_steps(3, 4_000)))
        self.assertEqual(replay.wait(), 0, replay.stderr())
        stats = listener.read_until("stats")
        while stats["delivered"] < stats["attempted"] or stats["steps_done"] == 0:
            stats = listener.read_until("stats")
        self.wait_drained()
        while b'"type":"end"' not in listener.lines(b"meta"):
            listener.read()
        last = json.loads(listener.lines(b"stats").splitlines()[-1])
        counts = [[0] * last["num_experts"] for _ in range(last["num_layers"])]
        for line in map(json.loads, path.read_bytes().splitlines()):
            if line["type"] == "route":
                for expert in line["topk_ids"]:
                    counts[line["layer"]][expert] += 1
        self.assertEqual(last["counts"], counts)

    def test_example_gets_every_row(self):
        self.start_collector()
        replay, path = self.start_fed_trace()
        rows_file = self.folder / "rows.jsonl"
        process = self.start_example("--output", str(rows_file), "--until-end")
        steps = make_steps(4, 1_000_000)
        self.feed_until_heard(replay, steps, rows_file)
        with rows_file.open(encoding="utf-8") as rows:
            before = json.loads(rows.readline())[
                "seq"
            ]  # depends on how long the example takes to start
        for step in itertools.islice(steps, 800):
            replay.feed(step)
            behind = routes_in(path) - before - 1_000
            wait_until(
                lambda behind=behind: rows_file.read_bytes().count(b"\n") >= behind,
                "rows do not come",
            )
        self.assertEqual(replay.wait(), 0, replay.stderr())
        [said] = self.example_says(process)
        self.wait_drained()
        routes = [
            line
            for line in path.read_bytes().splitlines(keepends=True)
            if line.startswith(b'{"type":"route"')
        ]
        self.assertEqual((said["rows_before"], said["rows_missed"]), (before, 0))
        self.assertEqual(
            (said["rows"], said["messages_missed"], said["ended"]), (len(routes) - before, 0, True)
        )
        self.assertEqual((self.folder / "rows.jsonl").read_bytes(), b"".join(routes[before:]))

    def test_example_says_that_no_collector_publishes_and_waits(self):
        for endpoint in (self.endpoint, f"tcp://127.0.0.1:{free_port()}"):
            self.endpoint = endpoint
            rows_file = self.folder / f"rows.{endpoint[:3]}"
            process = self.start_example("--output", str(rows_file), "--until-end")
            self.assertEqual(
                process.stderr.readline(),
                f"subscriber: no collector publishes on {endpoint} yet; start moetraced, or "
                "give the endpoint that `moetrace status` shows; waiting\n",
            )
            collector = self.start_collector()
            replay = Replay(self)
            replay.feed(meta_line([0, 1, 2, 5]))
            self.feed_until_heard(replay, make_steps(7, 1_000_000), rows_file)
            self.assertEqual(replay.wait(), 0, replay.stderr())
            [said] = self.example_says(process)
            self.assertTrue(said["ended"])
            self.assertEqual(collector.stop(), 0, collector.stderr())

    def test_example_is_quiet_beside_a_collector_without_a_trace(self):
        (self.folder / "moetrace").mkdir()
        for endpoint in (self.endpoint, "tcp://127.0.0.1:*"):
            collector = Collector(self, "--output-dir", self.traces, publish=endpoint)
            self.endpoint = (self.folder / f"moetrace/{self.session}.endpoint").read_text().strip()
            process = self.start_example("--idle", "4")  # longer than CONNECT_PATIENCE_S
            self.assertEqual(
                process.communicate(timeout=TIMEOUT_S),
                (
                    "",
                    f"subscriber: no trace was seen on {self.endpoint}; see "
                    "`moetrace status` for live traces\n",
                ),
            )
            self.assertEqual(process.returncode, 69)
            self.assertEqual(collector.stop(), 0, collector.stderr())

    def test_example_counts_across_a_killed_collector(self):
        """Rows that a collector wrote, but did not publish before it died, count as missed."""
        collector = self.start_collector()
        replay, path = self.start_fed_trace()
        rows_file = self.folder / "rows.jsonl"
        process = self.start_example("--output", str(rows_file), "--until-end")
        wait_until(rows_file.exists, "the example does not listen")
        steps = make_steps(5, 1_000_000)
        for _ in range(3):
            collector.kill()
            collector = self.start_collector()
            # The example reconnects by itself.
            self.feed_until_heard(replay, steps, rows_file)
        self.assertEqual(replay.wait(), 0, replay.stderr())
        [said] = self.example_says(process)
        self.wait_drained()
        done = self.check(path)
        self.assertTrue(said["ended"])
        self.assertEqual(said["rows"], rows_file.read_bytes().count(b"\n"))
        self.assertEqual(said["rows"] + said["rows_missed"] + said["rows_before"], done.delivered)

    def test_example_ends_on_a_signal(self):
        self.start_collector()
        replay, _ = self.start_fed_trace()
        rows_file = self.folder / "rows.jsonl"
        process = self.start_example("--output", str(rows_file))
        self.feed_until_heard(replay, make_steps(6, 1_000_000), rows_file)
        process.terminate()
        [said] = self.example_says(process)
        self.assertEqual((said["ended"], said["rows"] > 0), (False, True))
        replay.wait()


class ExampleCounts(unittest.TestCase):
    """What the example makes of messages of one trace, given as (topic, rows, delivered)."""

    def count(self, *messages):
        received = load_module(SUBSCRIBER).Received("t")
        numbers = collections.Counter()
        for topic, rows, delivered in messages:
            header = {"generation": 1, "message": numbers[topic], "count": rows}
            received.take(topic, {**header, "delivered": delivered}, b"")
            numbers[topic] += 1
        return received.rows_before, received.rows, received.rows_missed

    def test_rows_between_the_two_subscriptions(self):
        """The one to `route` begins after that to `meta`: these rows are no loss."""
        messages = ("meta", 0, 50), ("route", 2, 64), ("route", 1, 67)
        self.assertEqual(self.count(*messages), (62, 3, 2))

    def test_the_first_rows_of_a_trace_are_lost(self):
        self.assertEqual(self.count(("meta", 0, 0), ("route", 2, 64)), (0, 2, 62))

    def test_no_rows_came(self):
        self.assertEqual(self.count(("meta", 0, 50), ("meta", 0, 64)), (50, 0, 14))


if __name__ == "__main__":
    unittest.main(verbosity=2)
