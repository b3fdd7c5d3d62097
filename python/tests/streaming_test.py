"""moetrace.stream with a real collector: what comes plus what it says it missed is the file.

MOETRACE_LIBRARY, MOETRACE_READER_LIBRARY, MOETRACED and MOETRACE_CLI name the libraries and the
programs; the package is on PYTHONPATH.
"""

import json
import pathlib
import unittest

import moetrace
import numpy
import zmq
from streaming_case import LAYERS, Case, harness


class Live(Case):
    def test_every_row_of_several_traces(self):
        self.start_collector()
        stream = self.stream()
        traces = [self.start_trace(stream) for _ in range(3)]
        batches, fed = [], 0
        for steps in zip(*[harness.make_steps(n, 8000) for n in range(3)]):
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
            replay = harness.Replay(self)
            replay.feed(harness.meta_line(LAYERS) + "".join(harness.make_steps(2, 3000)))
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
        replay = harness.Replay(self)
        early = self.stream()
        replay.feed(harness.meta_line(LAYERS) + "".join(harness.make_steps(2, 3000)))
        self.pump(
            early, lambda: sum(trace.rows for trace in early.traces.values()) > 2000, "no rows"
        )
        early.close()
        stream = self.stream()
        batches = []  # the last of the first rows may come after the meta line
        self.pump(stream, lambda: stream.traces, "the meta line does not come", batches)
        [live] = stream.traces.values()
        replay.feed("".join(harness.make_steps(3, 2000)))
        self.assertEqual(replay.wait(), 0, replay.stderr())
        batches = self.rows_to_end(stream, batches)[live.trace_id]
        self.assertGreater(live.rows_before, 2000)
        self.assert_adds_up(live, self.assert_same(live.trace_id, batches, skip=live.rows_before))

    def test_a_slow_reader_knows_what_it_missed(self):
        self.start_collector()
        stream = self.stream(queue=1)
        replay, live = self.start_trace(stream)
        steps = list(harness.make_steps(11, 500_000))
        last = steps.pop()
        fed = sum(step.count("\n") for step in steps)
        [path] = self.trace_files()
        for step in steps:
            replay.feed(step)
        harness.wait_until(
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
        self.assert_each_once(live, batches, file)

    def test_a_killed_collector(self):
        collector = self.start_collector()
        stream = self.stream()
        replay, live = self.start_trace(stream)
        steps, batches = harness.make_steps(5, 1_000_000), []
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
        file = moetrace.open(self.traces / f"{live.trace_id}.jsonl")
        self.assert_adds_up(live, file)
        # With topic `rows` a new collector sends those again that were not in the file.
        self.assert_each_once(live, batches, file)
        self.assertEqual(live.collectors, 4)


if __name__ == "__main__":
    unittest.main(verbosity=2)
