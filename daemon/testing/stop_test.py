"""Stopping a collector and starting it again: every row is in the file."""

import os
import shutil
import signal
import unittest

from harness import (
    MOETRACED,
    Case,
    Collector,
    Replay,
    files_of,
    make_steps,
    meta_line,
    wait_until,
)


class Stop(Case):
    def test_stop_drains_and_a_restart_continues(self):
        source = self.write_log(6, 60_000)
        steps = source.read_text().splitlines(keepends=True)[1:]
        collector = self.start_collector()
        replay = Replay(self)
        replay.feed(meta_line([0, 1, 2, 5]))
        [path] = wait_until(self.trace_files, "no trace file")
        for part in range(4):
            lines = steps[part * len(steps) // 4 : (part + 1) * len(steps) // 4]
            replay.feed("".join(lines))
            self.assertEqual(collector.stop(), 0, collector.stderr())
            self.check(path, source, need_end=False, whole_source=False)
            collector = self.start_collector()
        self.assertEqual(replay.wait(), 0, replay.stderr())
        self.wait_drained()
        done = self.check(path, source)
        self.assertEqual((done.dropped, done.base), (0, None))

    def test_stop_drains_what_is_there(self):
        """A stop right after the start: every row of a waiting segment is in the file."""
        source = self.write_log(7, 50_000)
        replay = Replay(self, source, rate=1e9)
        self.assertEqual(replay.wait(), 0, replay.stderr())
        collector = self.start_collector()
        self.assertEqual(collector.stop(), 0, collector.stderr())
        [path] = self.trace_files()
        self.check(path, source, need_end=False)

    def test_either_signal_ends_it_cleanly(self):
        """In a live trace: every recorded row is in the file, and the collector cleans up."""
        endpoints = self.folder / "moetrace"
        endpoints.mkdir()
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number.name):
                collector = Collector(
                    self,
                    "--output-dir",
                    self.traces,
                    publish=f"ipc://{endpoints}/{self.session}.pub",
                )
                replay, path = self.start_fed(seed=number)
                self.assertEqual((collector.stop(number), collector.stderr()), (0, ""))
                self.assertGreater(self.check(path, need_end=False).delivered, 0)
                self.assertEqual(list(endpoints.iterdir()), [])
                self.assertFalse([name for name in os.listdir(self.rings) if path.stem not in name])
                self.start_collector("--once")
                self.assertEqual(replay.wait(), 0, replay.stderr())
                self.wait_drained()
                self.assertEqual(self.check(path).dropped, 0)
                self.assertEqual(self.collectors[-1].wait(), 0)

    def test_lost_file_starts_late(self):
        collector = self.start_collector()
        replay, path = self.start_fed(10_000)
        self.assertEqual(collector.stop(), 0, collector.stderr())
        first = self.check(path, need_end=False)
        for file in files_of(path):
            file.unlink()
        self.start_collector()
        for step in list(make_steps(1, 20_000))[len(list(make_steps(1, 10_000))) :]:
            replay.feed(step)
        self.assertEqual(replay.wait(), 0, replay.stderr())
        self.wait_drained()
        late = self.check(path)
        self.assertIsNotNone(late.base)
        self.assertEqual(late.base["delivered_total"], first.delivered)
        self.assertEqual(late.base["seq"], first.next_seq)
        text = path.read_text()
        self.assertIn('"event":null', text)
        self.assertGreater(late.delivered, 0)

    def test_pictures_of_an_ended_trace_are_waited_for(self):
        plots = self.folder / "plots"
        if not shutil.which("moetrace-plot", path=os.path.dirname(MOETRACED)):
            self.skipTest("moetrace-plot is not built")
        collector = self.start_collector("--plot-dir", plots, "--once")
        replay = Replay(self, self.write_log(8, 5_000))
        self.assertEqual(replay.wait(), 0, replay.stderr())
        self.assertEqual(collector.wait(), 0, collector.stderr())
        [path] = self.trace_files()
        for name in ("expert_hist.png", "expert_metrics.json"):
            self.assertGreater((plots / path.stem / name).stat().st_size, 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
