#!/usr/bin/env python3
"""`moetrace verify --repair`: unfinished ends are cut off, and nothing else is touched.

usage: repair_test.py DIRECTORY_OF_THE_PROGRAMS
"""

import functools
import os
import pathlib
import shutil
import subprocess
import sys

import cli_case
from cli_case import CliTest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "testing"))
import arrow_rows  # noqa: E402
import two_files  # noqa: E402
from made_trace import MadeTrace  # noqa: E402


@functools.cache
def whole_trace():
    """Of four batches."""
    return MadeTrace(1, differ=False).run(9500).end().text()


class Repair(CliTest):
    def setUp(self):
        super().setUp()
        with open(self.path("one.jsonl"), "w", encoding="utf-8") as file:
            file.write(whole_trace())
        self.moetrace("convert", "one.jsonl", "-o", "two.arrows")
        self.rows = self.read("two.arrows")
        self.lines = self.read("two.jsonl")
        self.ends = [
            int(line.split('"bytes":')[1].split(",")[0])
            for line in self.lines.decode().splitlines()
            if line.startswith('{"type":"rows"')
        ]
        self.assertEqual(len(self.ends), 4)

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def write(self, name, data):
        with open(self.path(name), "wb") as file:
            file.write(data)

    def repair(self, name, code):
        """The lines about what was done; `err` has the verdict of verify if it is bad."""
        out = self.moetrace("verify", "--repair", name, code=code)
        return [line for line in out.splitlines() if ": good: " not in line]

    def refused(self, name, what):
        before = {file: self.read(file) for file in os.listdir(self.dir)}
        self.assertEqual(self.repair(name, 1), [])
        self.one_line_error()
        self.assertIn(what, self.err)
        self.assertEqual({file: self.read(file) for file in os.listdir(self.dir)}, before)

    def test_nothing_to_do(self):
        for name in ("one.jsonl", "two.jsonl", "two.arrows"):
            self.assertEqual(self.repair(name, 0), [])
        self.assertEqual((self.read("two.jsonl"), self.read("two.arrows")), (self.lines, self.rows))

    def test_lines(self):
        whole = self.read("one.jsonl")
        at = whole.rindex(b"\n", 0, -1) + 1
        for cut in (1, 30, len(whole) - at - 2):
            with self.subTest(cut):
                self.write("one.jsonl", whole[: at + cut])
                [done] = self.repair("one.jsonl", 1)
                plural = "" if cut == 1 else "s"
                self.assertIn(
                    f"one.jsonl: cut {cut} byte{plural} off its end: an unfinished line", done
                )
                self.assertEqual(self.read("one.jsonl"), whole[:at])
                self.assertIn("end", self.err)
        self.write("one.jsonl", whole[:at] + b"\0" * 5000)
        self.repair("one.jsonl", 1)
        self.assertEqual(self.read("one.jsonl"), whole[:at])

    def test_a_whole_line_without_its_newline_stays(self):
        whole = self.read("one.jsonl")
        self.write("one.jsonl", whole[:-1])
        [done] = self.repair("one.jsonl", 0)
        self.assertIn("added the newline of its last line", done)
        self.assertEqual(self.read("one.jsonl"), whole)

    def test_a_message_that_is_not_counted_yet(self):
        """As a collector that is killed while it writes one: the trace has lost nothing."""
        first, last = self.ends[0], self.ends[-1]
        for more in (1, 8, 100, 5000):
            for name in ("two.arrows", "two.jsonl"):
                with self.subTest(more=more, name=name):
                    self.write("two.arrows", self.rows + self.rows[first : first + more])
                    [done] = self.repair(name, 0)
                    self.assertIn(f"two.arrows: cut {more:,} byte", done)
                    self.assertIn("an unfinished message after", done)
                    self.assertEqual(self.read("two.arrows"), self.rows)
        self.write("two.arrows", self.rows + b"\0" * 4096)
        self.repair("two.arrows", 0)
        self.assertEqual(self.read("two.arrows"), self.rows)
        self.assertEqual(last, len(self.rows))

    def test_rows_that_are_missing(self):
        """A copy that ended early: the whole batches stay, and verify says what is missing."""
        for keep in (self.ends[1] + 1, self.ends[2] - 1, self.ends[2] - 8):
            with self.subTest(keep):
                self.write("two.arrows", self.rows[:keep])
                [done] = self.repair("two.jsonl", 1)
                self.assertIn("after 2 whole", done)
                self.assertEqual(self.read("two.arrows"), self.rows[: self.ends[1]])
                self.assertRegex(self.err, rf"byte {self.ends[1]}: the file ends here; its last")
                rows = arrow_rows.RowsFile(pathlib.Path(self.path("two.arrows")))
                said = [
                    line for line in self.lines.splitlines() if line.startswith(b'{"type":"rows"')
                ]
                self.assertEqual(
                    sum(1 for _ in rows.rows(lambda layer: 4)),
                    int(said[1].split(b'"delivered_total":')[1].split(b",")[0]),
                )

    def test_both_ends(self):
        self.write("two.arrows", self.rows + self.rows[self.ends[0] : self.ends[0] + 9])
        self.write("two.jsonl", self.lines + b'{"type":"st')
        self.assertEqual(len(self.repair("two.jsonl", 0)), 2)
        self.assertEqual((self.read("two.jsonl"), self.read("two.arrows")), (self.lines, self.rows))

    def test_rows_without_lines(self):
        os.remove(self.path("two.jsonl"))
        self.write("two.arrows", self.rows[:-3])
        [done] = self.repair("two.arrows", 1)
        self.assertIn("cut", done)
        self.assertEqual(self.read("two.arrows"), self.rows[: self.ends[-2]])

    def test_damage_before_the_end(self):
        middle = self.ends[0] + 600
        changed = bytearray(self.rows)
        changed[middle] ^= 1
        self.write("two.arrows", bytes(changed))
        self.refused("two.arrows", "this is not an unfinished end, so nothing was changed")
        # A message with another length may seem to reach beyond the end.
        for at in (self.ends[0], self.ends[0] + 4):
            with self.subTest(at):
                changed = bytearray(self.rows)
                changed[at : at + 4] = b"\xf8\xff\x0f\x00"
                self.write("two.arrows", bytes(changed))
                self.refused("two.arrows", "nothing was changed")
        self.write("two.arrows", self.rows[:20])
        self.refused("two.arrows", "cut")
        self.write("two.arrows", self.rows)
        lines = self.lines.splitlines(keepends=True)
        self.write("two.jsonl", b"".join([*lines[:9], b"nonsense\n", *lines[9:], b'{"type']))
        self.refused("two.jsonl", "line 10")

    def test_what_is_no_file(self):
        self.refused("missing.jsonl", "--repair needs the name of a file")
        subprocess.run(["gzip", "one.jsonl"], cwd=self.dir, check=True)
        self.refused("one.jsonl.gz", "is compressed; unpack it, and repair that file")

    def test_a_live_trace(self):
        """Its collector holds the files, and may be in the middle of a write."""
        fed = self.path("feed")
        os.mkfifo(fed)
        collector = self.start(
            "moetraced", "--rows", "arrow", "--output", self.path("live.jsonl"), "--publish", "none"
        )
        replay = self.start("moetrace", "replay", fed)
        with open(fed, "w", encoding="utf-8") as feed:
            feed.write(MadeTrace(2, differ=False).run(50).text())
            feed.flush()
            live = pathlib.Path(self.path("live.jsonl"))
            self.wait_for(
                lambda: live.exists() and two_files.last_rows_line(live) is not None, "rows"
            )
            for name in ("live.jsonl", "live.arrows"):
                self.assertEqual(self.repair(name, 1), [])
                self.assertIn("a collector writes it; wait until the trace has ended", self.err)
            # So is a copy of them, whose collector is known by its ring alone.
            shutil.copy(live, self.path("copy.jsonl"))
            self.assertEqual(self.repair("copy.jsonl", 1), [])
        replay.wait(60)
        collector.terminate()
        collector.wait(60)
        self.repair("live.jsonl", 0)


if __name__ == "__main__":
    cli_case.main()
