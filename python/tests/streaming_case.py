"""What the tests of moetrace.stream share: a collector that publishes, and a stream of it."""

import os
import pathlib
import sys

import numpy

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "daemon/testing"))
import harness  # noqa: E402  (in the folder just named)
import moetrace  # noqa: E402
from harness import Collector, Replay, meta_line, wait_until  # noqa: E402

LAYERS = [0, 1, 2, 5]
# From which topic the streams of a run take their rows.
TOPIC = os.environ.get("MOETRACE_TEST_TOPIC", "route")


class Case(harness.Case):
    def setUp(self):
        super().setUp()
        self.endpoint = f"ipc://{self.folder}/pub"

    def start_collector(self, **options):
        return Collector(self, "--output-dir", self.traces, publish=self.endpoint, **options)

    def stream(self, endpoint=None, **options):
        stream = moetrace.stream(
            endpoint or self.endpoint,
            **{"timeout": harness.TIMEOUT_S, "topic": TOPIC, **options},
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

    def assert_each_once(self, live, batches, file):
        """What came are rows of the file, none of them twice."""
        rows = file.read()
        came = numpy.concatenate([batch.seq for batch in batches])
        self.assertEqual((len(came), len(numpy.unique(came))), (live.rows, live.rows))
        places = numpy.searchsorted(rows.seq, came)
        for name, column in rows.columns().items():
            numpy.testing.assert_array_equal(
                numpy.concatenate([getattr(batch, name) for batch in batches]), column[places]
            )

    def assert_adds_up(self, live, file):
        self.assertEqual(live.rows_before + live.rows + live.rows_missed, file.end["delivered"])
