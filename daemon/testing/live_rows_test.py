#!/usr/bin/python3
"""Topic `rows` with plain pyzmq: a late subscriber, and a new collector that sends rows again. Then
pyarrow alone opens each message as it came, and finds the rows of the trace's file.

The first half runs with Debian's python; for the second it starts the one of .venv/arrow, which
scripts/test makes. Exit code 77 without it.
"""

import json
import pathlib
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv/arrow/bin/python"
GOLDEN = ROOT / "trace/testdata/golden/message-header-rows.json"


def compare(folder, lines):
    """Prints a summary as JSON; fails if a row is not that of the file."""
    sys.path.insert(0, str(ROOT / "python"))
    import moetrace
    import numpy
    import pyarrow.ipc

    with moetrace.open(lines) as trace:
        file = trace.read()
        names = {request.number: request.req_id for request in trace.requests()}
    seen, again, rows = set(), 0, 0
    for path in sorted(folder.glob("*.arrows")):
        header = json.loads(path.with_suffix(".json").read_text())
        with pyarrow.ipc.open_stream(path) as stream:
            batch, metadata = stream.read_next_batch_with_custom_metadata()
            assert stream.schema.metadata[b"moetrace.trace_id"].decode() == header["trace_id"]
        batch.validate(full=True)
        skipped = batch["skipped"].to_numpy()
        seq = int(metadata[b"moetrace.first_seq"]) + numpy.arange(len(skipped)) + skipped.cumsum()
        assert len(seq) == header["count"] > 0 and seq[0] == header["first_seq"]
        assert int(metadata[b"moetrace.delivered"]) == header["delivered"]
        assert int(metadata[b"moetrace.next_seq"]) > seq[-1]
        places = numpy.searchsorted(file.seq, seq)
        assert (file.seq[places] == seq).all(), "the file has no such row"
        for name in ("request", "token_idx", "step", "layer"):
            column = batch[name].cast("int64").fill_null(-1)
            numpy.testing.assert_array_equal(column, getattr(file, name)[places])
        ids = batch["topk_ids"].flatten().cast("int32").fill_null(-1)
        weights = batch["topk_weights"].flatten().to_numpy(zero_copy_only=False)
        numpy.testing.assert_array_equal(ids, file.topk_ids[places].reshape(-1))
        numpy.testing.assert_array_equal(weights, file.topk_weights[places].reshape(-1))
        for number in set(batch["request"].drop_null().to_pylist()):
            assert header["requests"][str(number)] == names[number]
        again += len(seen.intersection(seq.tolist()))
        seen.update(seq.tolist())
        rows += len(seq)
    after = int((file.seq >= min(seen)).sum())
    print(json.dumps({"rows": rows, "again": again, "unseen": after - len(seen)}))


if sys.argv[1:2] == ["--compare"]:
    compare(*map(pathlib.Path, sys.argv[2:]))
    sys.exit()
if not PYTHON.exists():
    print("skipped: pyarrow is not installed; run scripts/test with PyPI")
    sys.exit(77)

import zmq  # noqa: E402  (the python of the other half has none)
from harness import (  # noqa: E402
    TIMEOUT_S,
    Case,
    Collector,
    Replay,
    make_steps,
    meta_line,
    routes_in,
    wait_until,
)


class LiveRows(Case):
    def setUp(self):
        super().setUp()
        self.endpoint = f"ipc://{self.folder}/pub"
        self.kept = self.folder / "messages"
        self.kept.mkdir()
        self.headers = []

    def start_collector(self):
        return Collector(self, "--output-dir", self.traces, publish=self.endpoint)

    def subscribe(self, *topics):
        context = zmq.Context()
        self.addCleanup(context.destroy, 0)
        self.socket = context.socket(zmq.SUB)
        self.socket.setsockopt(zmq.RCVHWM, 0)
        for topic in topics:
            self.socket.setsockopt(zmq.SUBSCRIBE, topic)
        self.socket.connect(self.endpoint)

    def take(self, patience_ms=0):
        """Keeps what is there; whether it was something."""
        came = False
        while self.socket.poll(patience_ms):
            _, header, payload = self.socket.recv_multipart()
            name = self.kept / f"{len(self.headers):06}"
            name.with_suffix(".arrows").write_bytes(payload)
            name.with_suffix(".json").write_bytes(header)
            self.headers.append(json.loads(header))
            came, patience_ms = True, 0
        return came

    def rows_of(self, generation):
        return sum(h["count"] for h in self.headers if h["generation"] == generation)

    def feed_until(self, holds, what):
        wait_until(lambda: holds() or (self.replay.feed(next(self.steps)), self.take(2))[0], what)

    def test_pyarrow_reads_the_rows_of_the_file(self):
        collector = self.start_collector()
        self.replay, self.steps = Replay(self), make_steps(3, 1_000_000)
        self.replay.feed(meta_line([0, 1, 2, 5]) + next(self.steps) + next(self.steps))
        [path] = wait_until(self.trace_files, "no trace file")
        wait_until(lambda: routes_in(path) > 0, "no row is in the file")
        self.subscribe(b"rows")
        self.feed_until(lambda: self.rows_of(1) > 500, "no rows come")
        collector.kill()
        collector = self.start_collector()
        self.feed_until(lambda: self.rows_of(2) > 500, "no rows come from the second collector")
        self.assertEqual(self.replay.wait(), 0, self.replay.stderr())
        self.wait_drained()
        self.assertEqual(collector.stop(), 0, collector.stderr())
        while self.take(200):
            pass
        done = self.check(path)
        self.assertEqual(list(self.headers[0]), list(json.loads(GOLDEN.read_text())))
        self.assertGreater(self.headers[0]["delivered"], self.headers[0]["count"], "it came late")
        # The numbers alone say what was missed, and what came again.
        missed = again = 0
        for before, after in zip(self.headers, self.headers[1:]):
            rows = after["delivered"] - after["count"] - before["delivered"]
            missed, again = missed + max(0, rows), again + max(0, -rows)
            if before["generation"] == after["generation"]:
                self.assertEqual(rows == 0, after["message"] == before["message"] + 1)
        self.assertEqual(self.headers[-1]["delivered"], done.delivered)
        compared = subprocess.run(
            [PYTHON, "-B", __file__, "--compare", self.kept, path],
            stdout=subprocess.PIPE,
            text=True,
            timeout=TIMEOUT_S,
        )
        self.assertEqual(compared.returncode, 0)
        rows = sum(h["count"] for h in self.headers)
        self.assertEqual(
            json.loads(compared.stdout), {"rows": rows, "again": again, "unseen": missed}
        )


if __name__ == "__main__":
    unittest.main(verbosity=2)
