"""moetrace.stream: against a real collector, what comes plus what it says it missed is what is in
the file; a hostile publisher gets one line.

MOETRACE_LIBRARY, MOETRACE_READER_LIBRARY, MOETRACED and MOETRACE_CLI name the libraries and the
programs; the package is on PYTHONPATH.
"""

import json
import logging
import os
import pathlib
import socket
import sys
import threading
import unittest

import numpy
import zmq

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "daemon/testing"))
import harness  # noqa: E402  (in the folder just named)
import moetrace  # noqa: E402
from harness import Collector, Replay, make_steps, meta_line, wait_until  # noqa: E402

LAYERS = [0, 1, 2, 5]
META = (
    json.dumps(
        {
            "type": "meta",
            "layers_logged": [0],
            "top_k": 2,
            "num_experts": 8,
            "schema": "moetrace/1",
            "trace_id": "t",
            "num_layers": 3,
        },
        separators=(",", ":"),
    ).encode()
    + b"\n"
)
ROUTE = (
    b'{"type":"route","req_id":"r0","token_idx":%d,"layer":1,"topk_ids":[3,0],"topk_weights":[0.5,0.25],"request":0,"step":0,'
    b'"seq":0}\n'
)


class Case(harness.Case):
    def setUp(self):
        super().setUp()
        self.endpoint = f"ipc://{self.folder}/pub"

    def start_collector(self, **options):
        return Collector(self, "--output-dir", self.traces, publish=self.endpoint, **options)

    def stream(self, endpoint=None, **options):
        stream = moetrace.stream(
            endpoint or self.endpoint, **{"timeout": harness.TIMEOUT_S, **options}
        )
        self.addCleanup(stream.close)
        return stream

    def start_trace(self, stream):
        """A producer that is fed, and its live trace, before any row."""
        replay = Replay(self)
        replay.feed(meta_line(LAYERS))
        known = set(stream.traces)
        self.pump(stream, lambda: set(stream.traces) - known, "the meta line does not come")
        [trace_id] = set(stream.traces) - known
        return replay, stream.traces[trace_id]

    def pump(self, stream, holds, what, batches=None):
        """Takes what is there until `holds()`."""
        timeout, stream.timeout = stream.timeout, 0.05

        def held():
            for batch in stream:
                if batches is not None:
                    batches.append(batch)
                if holds():
                    break
            return holds()

        wait_until(held, what)
        stream.timeout = timeout

    def rows_to_end(self, stream, batches=()):
        """Batches by trace id, until all traces that are known have ended."""
        found = {trace_id: [] for trace_id in stream.traces}
        for batch in batches:
            found[batch.trace.trace_id].append(batch)
        while not all(own and len(own[-1]) == 0 for own in found.values()):
            batch = next(stream)
            found[batch.trace.trace_id].append(batch)
        return found

    def assert_same(self, trace_id, batches, skip=0):
        """The rows that came are those of the file, from row `skip` on."""
        file = moetrace.open(self.traces / f"{trace_id}.jsonl")
        rows = file.read()
        for name, column in rows.columns().items():
            came = numpy.concatenate([getattr(batch, name) for batch in batches])
            numpy.testing.assert_array_equal(came, column[skip:], name)
        self.assertEqual(
            numpy.concatenate([batch.req_id for batch in batches]).tolist(),
            rows.req_id[skip:].tolist(),
        )
        return file

    def assert_adds_up(self, live, file):
        self.assertEqual(live.rows_before + live.rows + live.rows_missed, file.end["delivered"])


class Live(Case):
    def test_every_row_of_several_traces(self):
        self.start_collector()
        stream = self.stream()
        traces = [self.start_trace(stream) for _ in range(3)]
        batches, fed = [], 0
        for steps in zip(*[make_steps(n, 8000) for n in range(3)]):
            for (replay, _), step in zip(traces, steps):
                replay.feed(step)
                fed += step.count("\n")
            # Never lags by more than the collector's queue is long; a trace's last steps may wait
            # for those that follow them.
            self.pump(
                stream,
                lambda fed=fed: sum(live.rows for _, live in traces) >= fed - 3000,
                "rows do not come",
                batches,
            )
        for replay, _ in traces:
            self.assertEqual(replay.wait(), 0, replay.stderr())
        found = self.rows_to_end(stream, batches)
        for _, live in traces:
            own = found[live.trace_id]
            self.assertEqual(
                (len(own[-1]), own[-1].trace), (0, live), "an ended trace is a batch without rows"
            )
            self.assertEqual(
                (live.rows_missed, live.messages_missed, live.rows_before, live.collectors),
                (0, 0, 0, 1),
            )
            file = self.assert_same(live.trace_id, own)
            self.assertEqual((live.end, live.meta, live.cost), (file.end, file.meta, file.cost))
            self.assertGreater(live.cost.announce_ns, 0)
            self.assertEqual(live.requests(), file.requests())
            for name, column in file.steps().columns().items():
                numpy.testing.assert_array_equal(getattr(live.steps(), name), column, name)
            self.assertEqual((list(live.losses), list(live.torn)), (file.losses(), file.torn()))
            numpy.testing.assert_array_equal(live.experts(), file.experts())
            self.pump(
                stream,
                lambda live=live, file=file: (
                    live.stats and live.stats["counts"].sum() == file.experts().sum()
                ),
                "no last statistics",
            )
            numpy.testing.assert_array_equal(live.stats["counts"], file.experts())
            self.assertEqual(live.totals, {name: file.end[name] for name in live.totals})

    def test_messages_look_as_the_format_says(self):
        """Three frames; the keys of the header and of a stats line are the golden ones, in their
        order."""
        golden = pathlib.Path(__file__).resolve().parents[2] / "trace/testdata/golden"
        keys = {
            name: list(json.loads((golden / name).read_text()))
            for name in ("message-header.json", "stats.jsonl")
        }
        self.start_collector()
        with zmq.Context() as context, context.socket(zmq.SUB) as raw:
            for topic in ("meta", "route", "stats"):
                raw.subscribe(topic)
            raw.connect(self.endpoint)
            replay = Replay(self)
            replay.feed(meta_line(LAYERS) + "".join(make_steps(2, 3000)))
            self.assertEqual(replay.wait(), 0, replay.stderr())
            seen = {}
            while set(seen) < {"meta", "route", "stats"}:
                self.assertTrue(raw.poll(harness.TIMEOUT_S * 1000), f"only {set(seen)} came")
                topic, header, payload = raw.recv_multipart()
                header, lines = json.loads(header), payload.decode().splitlines(keepends=True)
                seen[topic.decode()] = header
                self.assertEqual(list(header), keys["message-header.json"])
                self.assertEqual(len(lines), header["count"])
                self.assertTrue(all(line.endswith("}\n") for line in lines))
                types = {json.loads(line)["type"] for line in lines}
                self.assertEqual("route" in types, topic == b"route")
                if topic == b"route":
                    self.assertEqual(
                        (types, header["first_seq"]), ({"route"}, json.loads(lines[0])["seq"])
                    )
                if topic == b"stats":
                    self.assertEqual(list(json.loads(lines[0])), keys["stats.jsonl"])

    def test_who_comes_late_knows_what_was_before(self):
        self.start_collector()
        replay = Replay(self)
        early = self.stream()
        replay.feed(meta_line(LAYERS) + "".join(make_steps(2, 3000)))
        self.pump(
            early, lambda: sum(trace.rows for trace in early.traces.values()) > 2000, "no rows"
        )
        early.close()
        stream = self.stream()
        batches = []  # the last of the first rows may come after the meta line
        self.pump(stream, lambda: stream.traces, "the meta line does not come", batches)
        [live] = stream.traces.values()
        replay.feed("".join(make_steps(3, 2000)))
        self.assertEqual(replay.wait(), 0, replay.stderr())
        batches = self.rows_to_end(stream, batches)[live.trace_id]
        self.assertGreater(live.rows_before, 2000)
        self.assert_adds_up(live, self.assert_same(live.trace_id, batches, skip=live.rows_before))

    def test_a_slow_reader_knows_what_it_missed(self):
        self.start_collector()
        stream = self.stream(queue=1)
        replay, live = self.start_trace(stream)
        steps = list(make_steps(11, 500_000))
        last = steps.pop()
        fed = sum(step.count("\n") for step in steps)
        [path] = self.trace_files()
        for step in steps:
            replay.feed(step)
        wait_until(
            lambda: harness.routes_in(path) >= fed - 5000, "the collector waits for its subscriber"
        )
        stream.timeout = 2  # the queues on the way are empty when nothing has come for a while
        batches = list(stream)
        replay.feed(last)
        self.assertEqual(replay.wait(), 0, replay.stderr())
        stream.timeout = harness.TIMEOUT_S
        batches = self.rows_to_end(stream, batches)[live.trace_id]
        self.assertGreater(live.rows_missed, 0, "nothing was missed: the test tests nothing")
        self.assertGreater(live.messages_missed, 0)
        file = moetrace.open(path)
        self.assert_adds_up(live, file)
        rows = file.read()
        came = numpy.concatenate([batch.seq for batch in batches])
        self.assertEqual((len(came), len(numpy.unique(came))), (live.rows, live.rows))
        places = numpy.searchsorted(rows.seq, came)
        for name, column in rows.columns().items():
            numpy.testing.assert_array_equal(
                numpy.concatenate([getattr(batch, name) for batch in batches]), column[places]
            )

    def test_a_killed_collector(self):
        collector = self.start_collector()
        stream = self.stream()
        replay, live = self.start_trace(stream)
        steps, batches = make_steps(5, 1_000_000), []
        for _ in range(3):
            had = live.rows
            self.pump(
                stream,
                lambda had=had: live.rows > had or replay.feed(next(steps)),
                "nothing comes",
                batches,
            )
            collector.kill()
            collector = self.start_collector()
        self.pump(
            stream,
            lambda: live.collectors == 4 or replay.feed(next(steps)),
            "the last collector is not heard",
            batches,
        )
        self.assertEqual(replay.wait(), 0, replay.stderr())
        batches = self.rows_to_end(stream, batches)[live.trace_id]
        self.assert_adds_up(live, moetrace.open(self.traces / f"{live.trace_id}.jsonl"))
        self.assertEqual(live.rows, sum(map(len, batches)))
        self.assertEqual(live.collectors, 4)

    @unittest.skipIf(
        os.access("/run/moetrace", os.R_OK), "/run/moetrace is here: collectors publish there"
    )
    def test_default_endpoint_is_where_the_collector_is(self):
        """Of a collector that is told nothing, whatever the runtime folder is."""
        usual, last = f"{self.folder}/moetrace", f"/tmp/moetrace-{os.getuid()}"
        names = ("XDG_RUNTIME_DIR", "TMPDIR")
        before = {name: os.environ.get(name) for name in names}
        self.addCleanup(
            lambda: [
                os.environ.__setitem__(name, value)
                if value is not None
                else os.environ.pop(name, None)
                for name, value in before.items()
            ]
        )
        session = f"test-{os.getpid()}-{self.folder.name[-8:].replace('.', '-')}"
        self.addCleanup(lambda: pathlib.Path(f"{last}/{session}.pub").unlink(missing_ok=True))
        long = self.folder / ("x" * (100 - len(str(self.folder))))
        long.mkdir()

        def check(folder, runtime, temporary=""):
            os.environ.update(XDG_RUNTIME_DIR=str(runtime), TMPDIR=str(temporary))
            endpoint = f"ipc://{folder}/{session}.pub"
            self.assertEqual(moetrace.default_endpoint(session), endpoint)
            collector = Collector(
                self,
                "--output-dir",
                self.traces,
                publish=None,
                session=session,
                env={name: os.environ[name] for name in names},
            )
            # The list is in the first folder that can be used, also where a socket's path there is
            # too long.
            [listed] = [
                path
                for path in (
                    *self.folder.rglob(f"{session}.endpoint"),
                    pathlib.Path(f"{last}/{session}.endpoint"),
                )
                if path.exists()
            ]
            self.assertEqual(listed.read_text(), endpoint + "\n")
            self.assertEqual(moetrace.default_endpoint(session), endpoint)
            collector.kill()  # its list stays, without an owner
            listed.write_text("tcp://127.0.0.1:1\n")
            self.assertEqual(moetrace.default_endpoint(session), endpoint)
            listed.unlink()

        check(usual, self.folder)
        check(last, self.folder / "missing")
        check(last, "", long)
        os.chmod(usual, 0o777)
        check(last, self.folder)

    def test_timeout_stop_and_default_endpoint(self):
        names = ("XDG_RUNTIME_DIR", "MOETRACE_SESSION")
        for name, value in zip(names, (str(self.folder), self.session)):
            before = os.environ.get(name)
            self.addCleanup(
                os.environ.__setitem__ if before is not None else lambda n, _: os.environ.pop(n),
                name,
                before,
            )
            os.environ[name] = value
        if os.access("/run/moetrace", os.W_OK):
            self.skipTest("/run/moetrace is here: this collector would publish there")
        self.assertEqual(
            moetrace.default_endpoint(), f"ipc://{self.folder}/moetrace/{self.session}.pub"
        )
        self.start_collector()
        self.assertEqual(moetrace.default_endpoint(), self.endpoint)  # it has written it down
        with moetrace.stream(timeout=0.05) as stream:
            self.assertEqual(list(stream), [])
            self.start_trace(stream)
            stream.timeout = None
            threading.Timer(0.2, stream.stop).start()
            self.assertEqual(list(stream), [])
        self.assertEqual(list(stream), [])
        stream.close()

    def said(self, endpoint):
        """What opening a stream says."""
        with self.assertLogs("moetrace") as logs:
            logging.getLogger("moetrace").warning("nothing else")
            self.stream(endpoint)
        return [record.getMessage() for record in logs.records][1:]

    def test_no_collector_publishes_yet(self):
        line = (
            f"moetrace: {self.endpoint}: no collector publishes there yet; "
            "waiting for a collector; `moetrace status` shows its endpoint"
        )
        self.assertEqual(self.said(self.endpoint), [line])
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(str(self.folder / "pub"))
        self.assertEqual(self.said(self.endpoint), [line])
        (self.folder / "pub").unlink()
        with self.assertLogs("moetrace") as logs:
            stream = self.stream()
            self.start_collector()
            self.start_trace(stream)  # it has waited
            stream.timeout = 0.2
            self.assertEqual(list(stream), [])
        self.assertEqual(len(logs.records), 1)
        self.assertEqual(self.said(self.endpoint), [])
        self.assertEqual(self.said("tcp://127.0.0.1:9"), [])

    def test_an_abstract_endpoint(self):
        endpoint = f"ipc://@{self.folder}"
        self.assertEqual(len(self.said(endpoint)), 1)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"\0{self.folder}")
            listening.listen()
            self.assertEqual(self.said(endpoint), [])

    def test_no_endpoint(self):
        with self.assertRaisesRegex(
            moetrace.ReadError, r"^nonsense: [^\n]+; `moetrace status` shows the endpoint$"
        ):
            self.stream("nonsense")


class Hostile(Case):
    """A publisher of our own."""

    def setUp(self):
        super().setUp()
        context = zmq.Context()
        self.socket = context.socket(zmq.XPUB)
        self.addCleanup(context.destroy, 0)
        self.socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self.socket.bind(self.endpoint)
        self.open = self.stream(timeout=5)
        for _ in range(3):
            self.socket.recv()
        self.sent = {}

    @staticmethod
    def header(**more):
        return {
            "trace_id": "t",
            "generation": 1,
            "message": 0,
            "first_seq": None,
            "count": 1,
            "attempted": 0,
            "delivered": 0,
            "filtered": 0,
            "dropped": 0,
            "torn": 0,
            **more,
        }

    def send(self, topic, payload, **more):
        header = self.header(message=self.sent.get(topic, 0), **more)
        self.sent[topic] = header["message"] + 1
        self.socket.send_multipart([topic, json.dumps(header).encode(), payload])

    def send_rows(self, delivered, count=1):
        self.send(
            b"route",
            b"".join(ROUTE % n for n in range(count)),
            count=count,
            delivered=delivered,
            attempted=delivered,
        )

    def test_messages_that_are_none(self):
        self.send(b"meta", META)
        good = json.dumps(self.header()).encode()
        route = json.dumps(self.header(count=1, delivered=1)).encode()
        for pattern, frames in (
            ("it has 2 frames", [b"route", good]),
            ("its topic is b'routes'", [b"routes", good, b"\n"]),
            ("its header: ", [b"route", b"{", b"\n"]),
            ("its header: ", [b"route", b"\xff\0", b"\n"]),
            ("its header: ", [b"route", b"[" * 100_000, b"\n"]),
            ("its header has no trace_id", [b"route", b"[]", b"\n"]),
            ("its header has no trace_id", [b"route", b'{"trace_id":5}', b"\n"]),
            (
                "delivered in its header must be an integer",
                [b"route", good.replace(b'"delivered": 0', b'"delivered": -1'), b"\n"],
            ),
            (
                "count in its header must be an integer",
                [b"route", good.replace(b'"count": 1', b'"count": 1' + b"0" * 400), b"\n"],
            ),
            (
                "count in its header must be an integer",
                [b"route", good.replace(b'"count": 1', b'"count": true'), b"\n"],
            ),
            (
                "its header counts more rows than there are",
                [b"route", good.replace(b'"count": 1', b'"count": 999999999'), b"\n"],
            ),
            ("it ends inside a line", [b"route", route, ROUTE[:-1] % 0]),
            ("it has other rows than the 1", [b"route", route, ROUTE % 0 + ROUTE % 1]),
            ("it has other rows than the 1", [b"route", route, b'{"type":"later"}\n']),
            (
                "line 1: expert id 8 is out of range",
                [b"route", route, ROUTE.replace(b"[3", b"[8") % 0],
            ),
            ("line 1: not JSON", [b"route", route, b"\0\0\0\n"]),
            (
                "line 1: not a meta line",
                [b"meta", json.dumps(self.header(trace_id="u")).encode(), b'{"type":"meta"\n'],
            ),
            ("its statistics: ", [b"stats", good, b"x\n"]),
            ("its statistics have no counts", [b"stats", good, b'{"counts":[[1],[2,3]]}\n']),
            (
                "its statistics have no counts",
                [b"stats", good, b'{"counts":[[1' + b"0" * 30 + b"]]}\n"],
            ),
            ("its statistics have no counts", [b"stats", good, b"[]\n"]),
        ):
            self.socket.send_multipart(frames)
            with self.assertRaises(moetrace.ReadError) as caught:
                list(self.open)
            self.assertRegex(
                str(caught.exception),
                f"^ipc:[^\n]+: not a message of a collector: {pattern}[^\n]*; [^\n]+$",
            )
        self.send(b"meta", META)
        self.send_rows(1000)
        self.assertEqual(len(next(self.open)), 1)  # it goes on

    def test_the_end_comes_before_the_last_rows(self):
        """A batch's other lines are published before its rows."""
        end = (
            b'{"type":"end","attempted":5,"delivered":5,"filtered":0,"dropped":0,"torn":0,'
            b'"status":"closed"}\n'
        )
        self.send(b"meta", META)
        self.send_rows(3, 3)
        self.send(b"meta", end, attempted=5, delivered=3)
        self.send_rows(5, 2)
        batches = [next(self.open) for _ in range(3)]
        self.assertEqual([len(batch) for batch in batches], [3, 2, 0])
        live = batches[0].trace
        self.assertEqual((live.rows, live.rows_missed, live.end["delivered"]), (5, 0, 5))

    def test_the_last_rows_are_lost(self):
        end = (
            b'{"type":"end","attempted":5,"delivered":5,"filtered":0,"dropped":0,"torn":0,'
            b'"status":"closed"}\n'
        )
        self.send(b"meta", META, delivered=1)
        self.send(b"meta", end, attempted=6, delivered=3, dropped=1)
        batch = next(self.open)
        self.assertEqual((len(batch), batch.trace.rows_before, batch.trace.rows_missed), (0, 1, 4))

    def test_rows_before_their_meta_line(self):
        """It asks for the line, and counts from there."""
        self.send_rows(1)
        self.open.timeout = 1.5
        self.assertEqual(list(self.open), [])
        self.send_rows(2)
        self.open.timeout = 0.2
        self.assertEqual(list(self.open), [])
        self.assertEqual(self.socket.recv(), b"\1meta")
        self.send(b"meta", META, delivered=2)
        self.send_rows(3)
        batch = next(self.open)
        self.assertEqual((len(batch), batch.trace.rows_before, batch.trace.rows_missed), (1, 2, 0))

    def test_what_was_lost_torn_and_selected(self):
        loss = (
            b'{"type":"loss","dropped":3,"dropped_total":%d,"cause":"ring_full","after_seq":null,'
            b'"event_lost_total":0}\n'
        )
        torn = b'{"type":"torn","first_seq":4,"count":2}\n'
        control = (
            b'{"type":"control","layers":[0,2],"sample_every":5,"from_step":6,"enabled":false,'
            b'"event":7}\n'
        )
        step = (
            b'{"type":"step","step":%d,"rows":1,"layers":1,"time_ns":5,"seq":0,"dropped_total":0,'
            b'"event":%d,"attempted_total":0,'
            b'"delivered_total":0,"filtered_total":0,"torn_total":0,"event_lost_total":0}\n'
        )
        self.send(b"meta", META)
        self.send(
            b"meta", step % (0, 0) + loss % 3 + torn + control + b'{"type":"later"}\n' + loss % 6
        )
        for n in range(20):
            self.send(b"meta", b"".join(step % (1 + 1000 * n + k, 2) for k in range(1000)))
        for _ in range(5):
            self.send(b"meta", b"".join(loss % k for k in range(1000)))
        self.send_rows(1)
        live = next(self.open).trace
        self.assertEqual(list(live.torn), [moetrace.TornLine(0, 4, 2)])
        self.assertEqual(list(live.controls), [moetrace.ControlLine(0, (0, 2), 5, 6, False, 7)])
        self.assertEqual(
            (len(live.losses), live.losses[-1]),
            (4096, moetrace.LossLine(0, 3, 999, "ring_full", None, 0)),
        )
        self.assertEqual(live.steps().step.tolist(), list(range(20_001 - 16_384, 20_001)))

    def test_a_new_collector_counts_from_zero(self):
        self.send(b"meta", META)
        self.send_rows(1)
        self.sent = {b"route": 2}  # its numbers 0 and 1 don't come
        self.send(b"route", ROUTE % 3, generation=2, delivered=4)
        live = [next(self.open), next(self.open)][0].trace
        self.assertEqual(
            (live.rows, live.rows_missed, live.messages_missed, live.collectors), (2, 2, 2, 2)
        )

    def test_counts_that_ran_ahead(self):
        """The counts with a repeated meta line may have rows in them that are still to be
        published."""
        self.send(b"meta", META, delivered=10)
        self.send_rows(10, 4)
        self.send_rows(12, 1)
        live = [next(self.open), next(self.open)][0].trace
        self.assertEqual((live.rows_before, live.rows, live.rows_missed), (6, 5, 1))


if __name__ == "__main__":
    unittest.main(verbosity=2)
