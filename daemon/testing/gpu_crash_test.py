"""SIGKILL of either side while a GPU writes the ring.

Every row comes once, each has its outcome, and no segment is left.

MOETRACE_CUDA_LOAD names the program moetrace-cuda-load, or a replacement that needs no GPU.
MOETRACE_KILLS sets the number of kills.
"""

import os
import random
import subprocess
import sys
import tempfile
import unittest

from harness import Case, Collector, routes_in, wait_until

LOAD = os.environ.get("MOETRACE_CUDA_LOAD", "moetrace-cuda-load")
KILLS = int(os.environ.get("MOETRACE_KILLS", "5"))
SEED = int(os.environ.get("MOETRACE_SEED", random.SystemRandom().randrange(1 << 30)))
ROWS, LAYERS = 16, 4
LONG_STEP = 600, 10  # so many rows that the GPU publishes it in pieces


class Load:
    """moetrace-cuda-load. After construction it has announced nothing yet."""

    def __init__(self, case, steps, *how, shape=(ROWS, LAYERS)):
        self.errors = case.folder / f"load.{next(case.numbers)}.err"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [LOAD, *map(str, (*shape, steps)), *how],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=case.env,
                text=True,
            )
        case.loads.append(self)
        line = self.process.stdout.readline()
        if not line.startswith("ready"):
            raise AssertionError(f"the load did not get ready: {self.errors.read_text()}")
        self.trace_id = line.split()[1]

    def kill(self):
        self.process.kill()
        self.process.wait()

    def announced(self):
        """Waits for its end; returns the number of announced records."""
        output = self.process.stdout.read()
        if self.process.wait() != 0:
            raise AssertionError(f"the load failed: {self.errors.read_text()}")
        return int(output.split()[0])


class GpuCrash(Case):
    def setUp(self):
        super().setUp()
        self.env["MOETRACE_RING_MB"] = "1"
        self.loads = []
        self.addCleanup(self.end_loads)
        print(f"{self._testMethodName}: MOETRACE_SEED={SEED}", flush=True)
        self.rng = random.Random(f"{SEED}/{self._testMethodName}")

    def end_loads(self):
        for load in self.loads:
            if load.process.poll() is None:
                load.kill()
            load.process.stdout.close()

    def start_collector(self):
        return Collector(self, "--output-dir", self.traces)

    def test_collector_is_killed(self):
        load = Load(self, 40_000, "--lossless")
        for _ in range(KILLS):
            collector = self.start_collector()
            self.run_until_moment(0.15)
            collector.kill()
        collector = self.start_collector()
        announced = load.announced()
        self.wait_drained()
        self.assertEqual(collector.stop(), 0, collector.stderr())
        [path] = self.trace_files()
        done = self.check(path)
        self.assertEqual(
            (done.delivered, done.dropped, done.torn, done.end["status"]),
            (announced, 0, 0, "closed"),
        )

    def test_collector_is_killed_and_rows_are_dropped(self):
        load = Load(self, 20_000)
        for _ in range(KILLS):
            collector = self.start_collector()
            self.run_until_moment(0.1)
            collector.kill()
        self.start_collector()
        announced = load.announced()
        self.wait_drained()
        [path] = self.trace_files()
        done = self.check(path)
        self.assertEqual(done.attempted, announced)
        self.assertEqual(done.torn, 0)

    def test_producer_is_killed_with_kernels_running(self):
        self.start_collector()
        delivered = 0
        for n in range(KILLS):
            load = Load(self, 0, "--lossless", shape=LONG_STEP) if n % 2 else Load(self, 0)
            path = self.traces / f"{load.trace_id}.jsonl"
            wait_until(lambda path=path: routes_in(path), "no rows")
            self.run_until_moment(0.1)
            load.kill()
            self.wait_drained()
            done = self.check(path)
            self.assertEqual(done.end["status"], "producer died")
            delivered += done.delivered
        self.assertGreater(delivered, 0)
        self.assertEqual(len(self.trace_files()), KILLS)

    def test_both_are_killed_and_a_new_start(self):
        for _ in range(3):
            collector = self.start_collector()
            load = Load(self, 0)
            path = self.traces / f"{load.trace_id}.jsonl"
            wait_until(lambda path=path: routes_in(path), "no rows")
            self.run_until_moment(0.05)
            for child in self.rng.sample([collector, load], 2):
                child.kill()
        load = Load(self, 500, "--lossless")
        self.start_collector()
        announced = load.announced()
        self.wait_drained()
        for path in self.trace_files():
            done = self.check(path)
            if path.stem == load.trace_id:
                self.assertEqual((done.delivered, done.end["status"]), (announced, "closed"))


def no_gpu():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as rings:
        return (
            subprocess.run(
                [LOAD, "1", "1", "1"],
                stdout=subprocess.DEVNULL,
                env={**os.environ, "MOETRACE_DIR": rings},
            ).returncode
            == 77
        )


if __name__ == "__main__":
    if no_gpu():
        sys.exit(77)
    unittest.main(verbosity=2)
