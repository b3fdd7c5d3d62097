"""A trace in parts: rotation by SIGHUP, and files that others remove, cut or compress meanwhile."""

import gzip
import os
import random
import shutil
import signal
import subprocess
import unittest

from harness import (
    MOETRACE,
    ROWS,
    Case,
    Collector,
    Replay,
    files_of,
    make_steps,
    meta_line,
    routes_in,
    rows_file,
    wait_until,
)
from written_lines import lines_of, seqs_of


class Parts(Case):
    def start(self, *arguments, quiet=True):
        self.traces.mkdir(exist_ok=True)
        self.output = self.traces / "trace.jsonl"
        return Collector(self, "--output", self.output, *arguments)

    def feed_some(self, replay, steps, rows=400):
        """Feeds steps; returns their number of rows. `replay` ends a step when the next begins."""
        fed = 0
        while fed < rows:
            step = next(steps)
            fed += self.last_step
            self.last_step = step.count("\n")
            replay.feed(step)
        return fed

    def wait_rows(self, path, rows):
        wait_until(lambda: routes_in(path) >= rows, f"{path.name} does not get {rows} rows")

    def begin_trace(self):
        replay = Replay(self)
        self.last_step = 0
        self.steps = make_steps(5, 100_000)
        replay.feed(meta_line([0, 1, 2, 5]))
        return replay

    def verify_chain(self, paths):
        """Checks each part alone, and all of them as one; returns the rows, in order."""
        for path in paths:
            alone = subprocess.run(
                [MOETRACE, "verify", path], env=self.env, capture_output=True, text=True
            )
            self.assertEqual(alone.returncode, 0, f"{path}: {alone.stdout}{alone.stderr}")
        whole = subprocess.run(
            [MOETRACE, "verify", *paths], env=self.env, capture_output=True, text=True
        )
        self.assertEqual(whole.returncode, 0, whole.stderr)
        seqs = [seq for path in paths for seq in seqs_of(path)]
        self.assertEqual(seqs, list(range(len(seqs))))
        return len(seqs)

    def test_log_rotation(self):
        """mv and SIGHUP: each file is complete, and together they are the trace."""
        collector = self.start()
        replay = self.begin_trace()
        fed, files = 0, []
        for number in range(4):
            rows = self.feed_some(replay, self.steps)
            fed += rows
            self.wait_rows(self.output, rows)
            moved = self.traces / f"trace.jsonl.{number}"
            for file in files_of(self.output):
                file.rename(rows_file(moved) if file != self.output else moved)
            files.append(moved)
            # Rows between the two go into the moved file.
            late = self.feed_some(replay, self.steps, 100)
            fed += late
            self.wait_rows(moved, rows + late)
            collector.process.send_signal(signal.SIGHUP)
            wait_until(self.output.exists, "no new file after SIGHUP")
            wait_until(
                lambda moved=moved: lines_of(moved)[-1]["type"] == "end",
                "the moved file has no end",
            )
            self.assertEqual(lines_of(moved)[-1]["status"], "continued")
        fed += self.last_step
        self.assertEqual(replay.wait(), 0, replay.stderr())
        self.wait_drained()
        self.assertEqual((collector.stop(), collector.stderr()), (0, ""))
        files.append(self.output)
        self.assertEqual(self.verify_chain(files), fed)
        starts = [lines_of(path)[1] for path in files]
        self.assertEqual([start.get("part") for start in starts], [None, 2, 3, 4, 5])

    def test_sighup_alone_takes_the_next_name(self):
        collector = self.start()
        replay = self.begin_trace()
        fed = self.feed_some(replay, self.steps)
        self.wait_rows(self.output, fed)
        collector.process.send_signal(signal.SIGHUP)
        second = self.traces / "trace.2.jsonl"
        wait_until(lambda: second.exists() and second.stat().st_size, "no second file")
        fed += self.feed_some(replay, self.steps) + self.last_step
        self.assertEqual(replay.wait(), 0, replay.stderr())
        self.wait_drained()
        self.assertEqual((collector.stop(), collector.stderr()), (0, ""))
        self.assertEqual(set(self.traces.iterdir()), files_of(second) | files_of(self.output))
        self.assertEqual(self.verify_chain([self.output, second]), fed)

    def test_sighup_does_not_end_a_collector_without_traces(self):
        collector = self.start()
        for _ in range(10):
            collector.process.send_signal(signal.SIGHUP)
        replay = self.begin_trace()
        fed = self.feed_some(replay, self.steps) + self.last_step
        self.assertEqual(replay.wait(), 0, replay.stderr())
        self.wait_drained()
        self.assertEqual((collector.stop(), collector.stderr()), (0, ""))
        self.assertEqual(self.verify_chain([self.output]), fed)

    def lose(self, how):
        """The file vanishes while it is written: the collector reports its rows as lost."""
        collector = self.start()
        replay = self.begin_trace()
        first = self.feed_some(replay, self.steps)
        self.wait_rows(self.output, first)
        self.wait_emptied()
        how()
        wait_until(collector.stderr, "the collector says nothing")
        second = self.feed_some(replay, self.steps) + self.last_step
        self.assertEqual(replay.wait(), 0, replay.stderr())
        self.wait_drained()
        self.assertEqual(collector.stop(), 0)
        said = collector.stderr()
        self.assertRegex(
            said,
            rf"\Amoetraced: {self.output}: "
            rf"was removed or cut by another program[^\n]* {first} rows are lost "
            r"with it; the trace continues in [^\n]*\n\Z",
        )
        return first, second

    def check_second_part(self, path, first, second):
        lines = lines_of(path)
        self.assertEqual(
            (lines[0]["type"], lines[1]["type"], lines[1]["part"]), ("meta", "part", 2)
        )
        self.assertEqual(
            (lines[1]["delivered_total"], lines[-1]["delivered"], lines[-1]["status"]),
            (first, second, "closed"),
        )
        self.assertEqual(
            subprocess.run(
                [MOETRACE, "verify", path], env=self.env, capture_output=True
            ).returncode,
            0,
        )

    def remove(self):
        for file in files_of(self.output):
            file.unlink()

    def test_removed(self):
        first, second = self.lose(self.remove)
        self.check_second_part(self.output, first, second)

    def test_cut_to_nothing(self):
        """Like copytruncate of logrotate."""

        def copy_and_cut():
            copy = self.traces / "copy.jsonl"
            shutil.copy(self.output, copy)
            shutil.copy(rows_file(self.output), rows_file(copy))
            for file in files_of(self.output):
                os.truncate(file, 0)

        first, second = self.lose(copy_and_cut)
        self.check_second_part(self.output, first, second)
        self.assertEqual(len(seqs_of(self.traces / "copy.jsonl")), first)

    def test_cut_in_the_middle(self):
        first, second = self.lose(lambda: os.truncate(self.output, self.output.stat().st_size // 2))
        self.check_second_part(self.traces / "trace.2.jsonl", first, second)

    def test_compressed(self):
        def compress():
            for file in files_of(self.output):
                with gzip.open(f"{file}.gz", "wb") as packed:
                    packed.write(file.read_bytes())
            self.remove()

        first, second = self.lose(compress)
        self.check_second_part(self.output, first, second)

    def test_what_it_says_at_the_end_is_in_files(self):
        command = [
            os.environ["MOETRACED"],
            "--directory",
            self.rings,
            "--session",
            self.session,
            "--publish",
            "none",
            "--output",
            self.folder / "trace.jsonl",
            "--rows",
            ROWS,
        ]
        collector = subprocess.Popen(
            list(map(str, command)), env=self.env, stderr=subprocess.PIPE, text=True
        )
        self.addCleanup(collector.communicate)
        self.addCleanup(collector.kill)
        self.output = self.folder / "trace.jsonl"
        self.assertIn("ready", collector.stderr.readline())
        replay = self.begin_trace()
        first = self.feed_some(replay, self.steps)
        self.wait_rows(self.output, first)
        self.assertIn("begins", collector.stderr.readline())
        self.wait_emptied()
        self.remove()
        self.assertIn("removed or cut", collector.stderr.readline())
        second = self.feed_some(replay, self.steps) + self.last_step
        self.assertEqual(replay.wait(), 0, replay.stderr())
        self.assertIn(
            f"has ended: closed, {second} delivered, 0 dropped, 0 torn, "
            f"{first} lost with a file that was removed or cut",
            collector.stderr.readline(),
        )

    def test_killed_while_it_rotates(self):
        """SIGHUP and SIGKILL at random moments: the chain of parts has each row once."""
        seed = random.SystemRandom().randrange(1 << 30)
        print(f"{self._testMethodName}: seed {seed}", flush=True)
        rng = random.Random(seed)
        replay = self.begin_trace()
        fed = 0

        def rows():
            return sum(routes_in(path) for path in self.trace_files())

        # A killed collector may have left an empty file, which the next part takes.
        def count():
            return sum(path.stat().st_size > 0 for path in self.trace_files())

        for _ in range(25):
            collector = self.start()
            for _ in range(rng.randrange(1, 4)):
                before, written = count(), rows()
                fed += self.feed_some(replay, self.steps, 1_000)
                # SIGHUP does not end a part without rows.
                wait_until(lambda written=written: rows() > written, "nothing is written")
                collector.process.send_signal(signal.SIGHUP)
                if rng.random() < 0.7:
                    wait_until(lambda before=before: count() > before, "no new part")
            fed += self.feed_some(replay, self.steps, rng.randrange(1_000))
            collector.kill()
        fed += self.last_step
        self.assertEqual(replay.wait(), 0, replay.stderr())
        collector = self.start()
        self.wait_drained()
        self.assertEqual(collector.stop(), 0, collector.stderr())
        parts = {}
        for path in self.trace_files():
            lines = lines_of(path)
            if lines:
                parts[lines[1].get("part", 1)] = path
        paths = [parts[number] for number in sorted(parts)]
        self.assertEqual(sorted(parts), list(range(1, len(parts) + 1)))
        self.assertGreater(len(parts), 2)
        self.assertEqual(self.verify_chain(paths), fed)

    def test_one_output_for_two_traces(self):
        """Two rings at the same instant: each trace has its own file, also across a kill."""
        self.traces.mkdir()
        self.output = self.traces / "trace.jsonl"
        sources = [self.write_log(seed, 2_000, name=f"source.{seed}.jsonl") for seed in (1, 2)]
        for turn in range(8):
            for path in self.traces.iterdir():
                path.unlink()
            replays = [Replay(self, source, rate=1e9) for source in sources]
            for replay in replays:
                self.assertEqual(replay.wait(), 0, replay.stderr())
            if turn % 2:
                self.start().kill()
            collector = self.start()
            self.wait_drained()
            self.assertEqual((collector.stop(), collector.stderr()), (0, ""))
            files = self.trace_files()
            self.assertEqual(files, [self.traces / "trace.2.jsonl", self.output])
            for path in files:
                self.assertEqual(
                    len({line["trace_id"] for line in lines_of(path) if line["type"] == "meta"}), 1
                )
                self.check(path)


if __name__ == "__main__":
    unittest.main(verbosity=2)
