"""--max-total-size: recording stops below the limit, and every row until then is in the files."""

import json
import re
import signal
import struct
import subprocess
import unittest

import moetrace
import numpy
from harness import MOETRACE, MOETRACED, ROWS, Case, files_of, wait_until
from written_lines import lines_of

# The smallest ring has 65,536 slots: as text they take more than 8 MiB, as columns less.
SMALL_RING_MB = 4
SLOTS = 1 << 16
LIMIT_MB = 32 if ROWS == "json" else 8
TOP_K, LAYERS, STEP_ROWS = 4, 2, 500


class SizeLimit(Case):
    def setUp(self):
        super().setUp()
        self.traces.mkdir()
        self.log = self.folder / "moetraced.log"
        self.config = self.folder / "config.json"
        self.fed = 0

    def start(self, **settings):
        """`moetraced` without --ready-fd, so that it says what a user sees."""
        self.write_config(**settings)
        self.log.write_bytes(b"")
        with self.log.open("ab") as errors:
            process = subprocess.Popen(
                [MOETRACED, "--config", self.config, "--publish", "none", "--rows", ROWS],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stderr=errors,
            )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        wait_until(lambda: "ready: " in self.log.read_text(), "is not ready")
        return process

    def write_config(self, **settings):
        self.config.write_text(json.dumps({"output_dir": str(self.traces), **settings}))

    def begin_trace(self, ring_mb=SMALL_RING_MB):
        """A real producer, in this process: a replay does not follow the control words."""
        self.producer = moetrace.Producer(
            num_layers=LAYERS,
            num_experts=60,
            top_k=TOP_K,
            model_id="test/model",
            ring_mb=ring_mb,
            directory=str(self.rings),
            session=self.session,
        )
        self.addCleanup(self.producer.close)
        self.request = self.producer.request("r0", prompt_tokens=1)
        self.position = 0
        random = numpy.random.default_rng(7)
        self.ids = random.integers(0, 60, (STEP_ROWS, TOP_K), dtype="int32")
        self.weights = random.random((STEP_ROWS, TOP_K), dtype="float32")
        [control] = self.rings.glob("*.ctl")
        self.consumed = control.open("rb", buffering=0)
        self.addCleanup(self.consumed.close)

    def feed(self, rows):
        """At most as fast as the collector, so that nothing is dropped."""

        def has_room():
            self.consumed.seek(64)  # route_consumed (shm/ABI.md)
            [consumed] = struct.unpack("<Q", self.consumed.read(8))
            return self.producer.totals.recorded - consumed < SLOTS // 2

        for _ in range(0, rows, LAYERS * STEP_ROWS):
            wait_until(has_room, "the collector does not drain the ring")
            self.producer.step(STEP_ROWS, [(self.request, self.position, 0, STEP_ROWS)])
            for layer in range(LAYERS):
                self.producer.record(layer, self.ids, self.weights)
            self.position += STEP_ROWS
            self.fed += LAYERS * STEP_ROWS

    def feed_until(self, holds, what):
        def fed():
            self.feed(2_000)
            return holds()

        return wait_until(fed, what)

    def said(self, text=" is reached: "):
        return [line for line in self.log.read_text().splitlines() if text in line]

    def control(self, *words):
        done = subprocess.run(
            [MOETRACE, *words], env=self.env, capture_output=True, text=True, check=True
        )
        return done.stdout

    def total(self):
        return sum(path.stat().st_size for path in self.traces.iterdir())

    def end_trace(self):
        self.request.end(generated_tokens=self.position)
        self.producer.close()
        self.wait_drained()

    def verify(self, *paths):
        done = subprocess.run(
            [MOETRACE, "verify", *paths], env=self.env, capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def test_stops_below_the_limit(self):
        limit = LIMIT_MB << 20
        collector = self.start(max_total_size=f"{LIMIT_MB}M")
        self.begin_trace()
        self.feed_until(lambda: len(self.said()) == 1, "the limit is not reached")
        self.assertRegex(
            self.said()[0],
            rf"\Amoetraced: max_total_size {LIMIT_MB}M is reached: the trace files have [\d.]+ MiB,"
            r" and [\d.]+ MiB are kept for what the rings may still hold; recording is off in "
            r"1 trace; raise the limit, or remove trace files; then run: moetrace start "
            r"--session test\Z",
        )
        wait_until(lambda: not self.status()[0]["enabled"], "recording is on")
        # Many more rows than the files have room for.
        self.feed(400_000)
        self.assertLess(self.producer.totals.attempted, self.fed - 300_000)
        self.wait_emptied()
        self.assertLess(self.total(), limit)
        # Over the limit, `moetrace start` has no effect but a line.
        self.control("start")
        self.feed_until(lambda: len(self.said()) == 2, "nothing is said")
        self.feed(100_000)
        self.end_trace()
        collector.send_signal(signal.SIGTERM)
        self.assertEqual(collector.wait(60), 0)
        [path] = self.trace_files()
        self.verify(path)
        lines = lines_of(path)
        stops = [line for line in lines if line["type"] == "control" and not line["enabled"]]
        self.assertGreaterEqual(len(stops), 1)
        self.assertEqual({line.get("reason") for line in stops}, {"max-total-size"})
        end = lines[-1]
        self.assertEqual(
            (end["status"], end["dropped"], end["torn"], end["attempted"]),
            ("closed", 0, 0, end["delivered"]),
        )
        self.assertLess(self.total(), limit)
        self.assertEqual(end["delivered"], self.producer.totals.attempted)

    def test_a_restart_leaves_it_off_until_there_is_room(self):
        collector = self.start(max_total_size=f"{LIMIT_MB}M")
        self.begin_trace()
        self.feed_until(self.said, "the limit is not reached")
        collector.kill()
        collector.wait()
        collector = self.start(max_total_size=f"{LIMIT_MB}M")
        self.feed_until(self.said, "nothing is said")
        self.feed(50_000)
        self.assertRegex(self.said()[0], "recording (stays|is) off in 1 trace")
        self.assertEqual(len(self.said()), 1)
        self.assertFalse(self.status()[0]["enabled"])
        # A higher limit, and the user's own command.
        self.write_config(max_total_size="10G")
        collector.send_signal(signal.SIGHUP)
        wait_until(lambda: self.said("max_total_size is now"), "SIGHUP is not taken")
        self.control("start")
        before = self.total()
        self.feed_until(lambda: self.total() > before + (1 << 20), "nothing is recorded")
        # A stop by hand has no reason.
        self.control("stop")
        self.feed(20_000)
        self.end_trace()
        paths = self.trace_files()
        self.verify(*paths)
        controls = [line for path in paths for line in lines_of(path) if line["type"] == "control"]
        by_event = sorted(controls, key=lambda line: line["event"])
        self.assertEqual(by_event[0].get("reason"), "max-total-size")
        self.assertEqual(
            [(line["enabled"], line.get("reason")) for line in by_event[-2:]],
            [(True, None), (False, None)],
        )

    def test_removed_files_make_room(self):
        """With --keep the oldest parts go, and recording never stops."""
        self.start(max_total_size=f"{LIMIT_MB}M", max_file_size="1M", keep=2)
        self.begin_trace()
        wait_until(lambda: self.trace_files(), "no trace")

        def last():
            return max(
                int((re.findall(r"\.(\d+)\.jsonl$", path.name) or ["1"])[0])
                for path in self.trace_files()
            )

        self.feed_until(lambda: last() >= 2 * LIMIT_MB // 3, "too few parts")
        self.end_trace()
        self.assertEqual(self.said(), [])
        self.assertLess(self.total(), LIMIT_MB << 20)
        paths = self.trace_files()
        self.assertEqual(len(paths), 2)
        self.verify(*paths)
        self.assertEqual(set(self.traces.iterdir()), set().union(*map(files_of, paths)))

    def test_a_limit_that_the_ring_does_not_fit(self):
        self.start(max_total_size="8M")
        self.begin_trace(ring_mb=64)
        self.feed_until(self.said, "nothing is said")
        self.assertIn("give the engines smaller rings (MOETRACE_RING_MB)", self.said()[0])
        self.end_trace()
        [path] = self.trace_files()
        self.verify(path)

    def test_status_says_how_fast_and_how_long(self):
        self.start(max_total_size="100G")
        self.begin_trace()

        def files():
            [status] = self.status()
            return status["files"]

        said = self.feed_until(lambda: files()["bytes_an_hour"] and files(), "no rate is said")
        self.assertGreater(said["written_bytes"], 0)
        self.assertLess(said["room_bytes"], 100 << 30)
        self.assertGreater(said["seconds_until_full"], 0)
        self.assertRegex(
            self.control("status"),
            r"\n  files      \d+\.\d\d GB written, \d+\.\d\d GB an hour(, \d+ encoder threads?)?; "
            r"max-total-size in \d+\.\d h\n",
        )
        self.end_trace()


if __name__ == "__main__":
    unittest.main(verbosity=2)
