"""Long runs: parts by size and by age, old parts removed, also while the collector is killed."""

import json
import os
import random
import re
import shutil
import subprocess
import time
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
    rows_file,
    wait_until,
)
from written_lines import lines_of, seqs_of

SEED = int(os.environ.get("MOETRACE_SEED", random.SystemRandom().randrange(1 << 30)))
# Of the smallest ring, so that a quarter of it, which makes a batch of Arrow rows, comes soon.
SMALL_RING = {"MOETRACE_RING_MB": "4"}
# Rows that end a part of 64 KiB: as text, and as a batch.
PART_ROWS = 1_000 if ROWS == "json" else (1 << 20) // 64
KILLS, PARTS = (25, 14) if ROWS == "json" else (8, 7)


def part_of(path):
    """A part's number; None: its beginning is not written yet."""
    lines = path.read_bytes().split(b"\n", 2)
    return json.loads(lines[1]).get("part", 1) if len(lines) == 3 else None


class LongRuns(Case):
    def setUp(self):
        super().setUp()
        print(f"{self._testMethodName}: MOETRACE_SEED={SEED}", flush=True)
        self.rng = random.Random(f"{SEED}/{self._testMethodName}")
        self.traces.mkdir()
        self.output = self.traces / "trace.jsonl"
        self.steps = make_steps(5, 10_000_000)
        self.fed, self.last_step = 0, 0

    def start(self, *arguments):
        return Collector(self, "--output", self.output, *arguments)

    def begin_trace(self):
        self.replay = Replay(self, env=SMALL_RING)
        self.replay.feed(meta_line([0, 1, 2, 5]))

    def feed(self, rows):
        """`replay` ends a step when the next begins."""
        enough = self.fed + rows
        while self.fed < enough:
            step = next(self.steps)
            self.fed += self.last_step
            self.last_step = step.count("\n")
            self.replay.feed(step)

    def end_trace(self):
        self.fed += self.last_step
        self.assertEqual(self.replay.wait(), 0, self.replay.stderr())
        self.wait_drained()

    def parts(self):
        """The files of lines by their part."""
        found = {}
        for path in self.trace_files():
            # The collector may remove it meanwhile.
            try:
                number = part_of(path)
            except FileNotFoundError:
                continue
            if number is not None:
                self.assertNotIn(number, found)
                found[number] = path
        return found

    def wait_parts(self, least):
        wait_until(lambda: max(self.parts(), default=0) >= least, f"no part {least}")

    def verify(self, *paths):
        done = subprocess.run(
            [MOETRACE, "verify", *paths], env=self.env, capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 0, f"{paths}: {done.stdout}{done.stderr}")
        return done.stdout

    def check_chain(self, first=1):
        """Each part from `first` on alone, and all as one: every row once, every total right."""
        parts = self.parts()
        self.assertEqual(sorted(parts), list(range(first, max(parts) + 1)))
        paths = [parts[number] for number in sorted(parts)]
        before = 0 if first == 1 else lines_of(paths[0])[1]["delivered_total"]
        sums = dict.fromkeys(("attempted", "delivered", "filtered", "dropped", "torn"), 0)
        for path in paths:
            self.verify(path)
            end = lines_of(path)[-1]
            self.assertEqual(
                end["attempted"],
                sum(end[key] for key in ("delivered", "filtered", "dropped", "torn")),
            )
            for key in sums:
                sums[key] += end[key]
        self.verify(*paths)
        seqs = [seq for path in paths for seq in seqs_of(path)]
        self.assertEqual(seqs, list(range(before, self.fed)))
        self.assertEqual(
            sums,
            {
                "attempted": self.fed - before,
                "delivered": self.fed - before,
                "filtered": 0,
                "dropped": 0,
                "torn": 0,
            },
        )
        return paths

    def test_parts_by_size(self):
        """A part ends with the write that reaches the size: both files count."""
        collector = self.start("--max-file-size", "64K")
        self.begin_trace()
        for number in range(2, PARTS):
            self.feed(PART_ROWS)
            self.wait_parts(number)
        self.end_trace()
        self.assertEqual((collector.stop(), collector.stderr()), (0, ""))
        paths = self.check_chain()
        self.assertGreaterEqual(len(paths), PARTS - 1)
        for number, path in enumerate(paths[1:], 2):
            self.assertEqual(path.name, f"trace.{number}.jsonl")
        for path in paths[:-1]:
            size = sum(file.stat().st_size for file in files_of(path))
            self.assertGreaterEqual(size, 64 << 10)
            # The write that reached it was one pass, of at most 1,024 rows and as many events.
            self.assertLess(size, (64 << 10) + (1 << 20))

    def test_killed_while_parts_end_by_size(self):
        self.begin_trace()
        for _ in range(KILLS):
            collector = self.start("--max-file-size", "64K")
            least = max(self.parts(), default=0) + self.rng.randrange(1, 3)
            while max(self.parts(), default=0) < least:
                self.feed(PART_ROWS // 4)
            self.feed(self.rng.randrange(2 * PART_ROWS))
            self.run_until_moment(0.02)
            collector.kill()
        collector = self.start("--max-file-size", "64K")
        self.end_trace()
        self.assertEqual((collector.stop(), collector.stderr()), (0, ""))
        self.assertGreater(len(self.check_chain()), KILLS)

    def test_killed_while_old_parts_are_removed(self):
        keep = 3
        limits = ("--max-file-size", "64K", "--keep", keep)
        self.begin_trace()
        for _ in range(KILLS):
            collector = self.start(*limits)
            least = max(self.parts(), default=0) + self.rng.randrange(1, 4)
            while max(self.parts(), default=0) < least:
                self.feed(PART_ROWS // 4)
            self.feed(self.rng.randrange(2 * PART_ROWS))
            self.run_until_moment(0.02)
            collector.kill()
        collector = self.start(*limits)
        self.end_trace()
        self.assertEqual((collector.stop(), collector.stderr()), (0, ""))
        last = max(self.parts())
        self.assertGreater(last, KILLS)
        paths = self.check_chain(last - keep + 1)
        self.assertEqual(
            set(self.traces.iterdir()), {file for path in paths for file in files_of(path)}
        )
        said = self.verify(*paths)
        self.assertIn(
            f"; parts 1 to {last - keep} are absent, with "
            f"{lines_of(paths[0])[1]['delivered_total']:,} delivered rows\n",
            said,
        )

    def test_idle_trace_makes_no_parts(self):
        collector = self.start("--max-age", "1s")
        self.begin_trace()
        self.feed(500)
        self.wait_parts(2)
        # Part 2 gets older than a second twice over.
        begun = time.monotonic()
        wait_until(lambda: time.monotonic() - begun > 2.2, "time stands still")
        self.assertEqual(max(self.parts()), 2)
        self.feed(500)
        self.wait_parts(3)
        self.end_trace()
        self.assertEqual((collector.stop(), collector.stderr()), (0, ""))
        self.check_chain()

    def test_removes_nothing_else(self):
        """Files in the way: moved parts, copies, other traces, links."""
        collector = self.start("--max-file-size", "64K")
        self.begin_trace()
        for number in range(2, 7):
            self.feed(PART_ROWS)
            self.wait_parts(number)
        collector.kill()
        parts = self.parts()
        # Moved away, as logrotate does it; copied; replaced by a link.
        moved = self.traces / "trace.jsonl.1"
        parts[1].rename(moved)
        if ROWS == "arrow":
            rows_file(parts[1]).rename(rows_file(moved))
        copy = self.traces / "trace.777.jsonl"
        for file in files_of(parts[2]):
            shutil.copy(file, copy if file == parts[2] else rows_file(copy))
        away = self.folder / "away.jsonl"
        parts[3].rename(away)
        parts[3].symlink_to(away)
        other = self.traces / "trace.888.jsonl"
        other.write_text('{"type":"meta","trace_id":"other"}\n{"type":"part","part":2}\n')
        kept = {copy, moved, away, other, parts[2], parts[3]}
        collector = self.start("--max-file-size", "64K", "--keep", "2")
        self.feed(4 * PART_ROWS)
        wait_until(lambda: not parts[4].exists(), "part 4 is not removed")
        self.end_trace()
        self.assertEqual((collector.stop(), collector.stderr()), (0, ""))
        for path in kept:
            self.assertTrue(path.is_file(), path)
        if ROWS == "arrow":
            for path in (moved, copy, parts[2]):
                self.assertTrue(rows_file(path).is_file(), path)

    def test_says_what_it_removes(self):
        log = self.folder / "moetraced.log"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [os.environ["MOETRACED"], "--directory", self.rings, "--session", self.session]
                + ["--publish", "none", "--output", self.output, "--rows", ROWS, "--keep", "1"]
                + ["--max-file-size", "64K"],
                env=self.env,
                stderr=errors,
            )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.begin_trace()
        for number in (2, 3):
            self.feed(PART_ROWS)
            self.wait_parts(number)
        wait_until(lambda: len(re.findall("keeps 1 part", log.read_text())) >= 2, "says nothing")
        self.end_trace()
        self.assertRegex(
            log.read_text(),
            rf"trace [\w-]+: keeps 1 part, removed part 1, {re.escape(str(self.output))}\n",
        )
        [path] = self.trace_files()
        self.verify(path)

    def test_run_reports_what_is_left(self):
        source = self.write_log(3, 6 * PART_ROWS)
        limits = {"MOETRACE_MAX_FILE_SIZE": "64K", "MOETRACE_KEEP": "2", "MOETRACE_ROWS": ROWS}
        done = subprocess.run(
            [MOETRACE, "run", "-o", self.output, "--", MOETRACE, "replay", "--rate", "1e9", source],
            env={**self.env, **SMALL_RING, **limits},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        reported = re.findall(r"moetrace: (\S+\.jsonl): [\d,]+ rows? of", done.stderr)
        self.assertEqual(sorted(reported), sorted(map(str, self.trace_files())))
        self.assertEqual(len(reported), 2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
