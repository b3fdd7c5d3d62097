"""SIGKILL of either side at random moments under load: every row once, none torn, all counted.

MOETRACE_SEED repeats a run, except that its moments also depend on what the machine does meanwhile.
MOETRACE_KILLS sets the number of kills.
"""

import os
import random
import resource
import unittest

from harness import Case, Collector, Replay, has_torn_end, routes_in, rows_file, wait_until

KILLS = int(os.environ.get("MOETRACE_KILLS", "50"))
RATE = 60_000  # rows a second
SEED = int(os.environ.get("MOETRACE_SEED", random.SystemRandom().randrange(1 << 30)))


class Crash(Case):
    def setUp(self):
        super().setUp()
        self.seed = f"{SEED}/{self._testMethodName}"
        print(f"{self._testMethodName}: MOETRACE_SEED={SEED}", flush=True)
        self.rng = random.Random(self.seed)

    def start_collector(self, **how):
        return Collector(self, "--output-dir", self.traces, **how)

    def test_collector_is_killed(self):
        source = self.write_log(self.seed, 180_000)
        kills = 0
        while kills < KILLS:
            replay = Replay(self, source, rate=RATE)
            while kills < KILLS and replay.process.poll() is None:
                collector = self.start_collector()
                self.run_until_moment(0.12)
                collector.kill()
                kills += 1
            collector = self.start_collector()
            self.assertEqual(replay.wait(), 0, replay.stderr())
            self.wait_drained()
            self.assertEqual(collector.stop(), 0, collector.stderr())
        for path in self.trace_files():
            done = self.check(path, source)
            self.assertEqual((done.dropped, done.torn, done.end["status"]), (0, 0, "closed"))

    def test_filtering_collector_is_killed(self):
        """Filtered rows have no line from which the next collector could find its place."""
        source = self.write_log(self.seed, 90_000)
        wanted = self.folder / "wanted.jsonl"
        wanted.write_text(
            "".join(
                line
                for line in source.read_text().splitlines(keepends=True)
                if '"layer":2,' in line
            )
        )
        replay = Replay(self, source, rate=RATE)
        for _ in range(10):
            collector = Collector(self, "--output-dir", self.traces, "--layers", "2")
            self.run_until_moment(0.12)
            collector.kill()
        Collector(self, "--output-dir", self.traces, "--layers", "2")
        self.assertEqual(replay.wait(), 0, replay.stderr())
        self.wait_drained()
        [path] = self.trace_files()
        done = self.check(path, wanted)
        self.assertEqual((done.dropped, done.torn, done.filtered), (0, 0, 3 * done.delivered))

    def test_collector_is_killed_while_writes_come_short(self):
        """A file size limit cuts a write() in a line or in a message: the worst end of a file."""
        source = self.write_log(self.seed, 150_000)
        replay = Replay(self, source, rate=RATE)
        moments, torn_ends, limit = 12, 0, 0
        for _ in range(moments):
            collector = self.start_collector()
            wait_until(self.trace_files, "no trace file")
            [path] = self.trace_files()
            rows = rows_file(path)
            limit = max(limit, rows.stat().st_size) + self.rng.randrange(20_000, 300_000)
            resource.prlimit(
                collector.process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY)
            )
            wait_until(
                lambda rows=rows, limit=limit, collector=collector: (
                    rows.stat().st_size >= limit
                    or collector.process.poll() is not None
                    or replay.process.poll() is not None
                ),
                "the limit is not reached",
            )
            self.run_until_moment(0.02)
            collector.kill()
            torn_ends += has_torn_end(path)
        self.assertGreater(torn_ends, 0, "no write was cut")
        self.start_collector()
        self.assertEqual(replay.wait(), 0, replay.stderr())
        self.wait_drained()
        done = self.check(path, source)
        self.assertEqual((done.dropped, done.torn), (0, 0))

    def test_producer_is_killed(self):
        source = self.write_log(self.seed, 360_000)
        collector = self.start_collector()
        for _ in range(KILLS):
            known = set(self.trace_files())
            replay = Replay(self, source, rate=RATE)  # 6 s, so that it is killed before its end
            wait_until(
                lambda known=known: set(self.trace_files()) - known, "the segment is not found"
            )
            self.run_until_moment(0.25)
            replay.kill()
        self.wait_drained()
        self.assertEqual(collector.stop(), 0, collector.stderr())
        self.assertEqual(len(self.trace_files()), KILLS)
        rows, announce_ns = 0, 0
        for path in self.trace_files():
            done = self.check(path, source, whole_source=False)
            self.assertEqual((done.dropped, done.end["status"]), (0, "producer died"))
            rows += done.delivered
            # Its last snapshot; 0 if it died before the first one.
            announce_ns += done.end["cost"]["announce_ns"]
        self.assertGreater(rows, 0)
        self.assertGreater(announce_ns, 0)

    def test_both_are_killed(self):
        source = self.write_log(self.seed, 60_000)
        traces = 10
        for _ in range(traces):
            known = set(self.trace_files())
            collector = self.start_collector()
            replay = Replay(self, source, rate=RATE)
            [path] = wait_until(
                lambda known=known: set(self.trace_files()) - known, "the segment is not found"
            )
            wait_until(lambda path=path: routes_in(path), "no rows")
            self.run_until_moment(0.1)
            for child in self.rng.sample([collector, replay], 2):
                child.kill()
        self.start_collector()
        self.wait_drained()
        self.assertEqual(len(self.trace_files()), traces)
        for path in self.trace_files():
            self.check(path, source, whole_source=False)


if __name__ == "__main__":
    unittest.main(verbosity=2)
