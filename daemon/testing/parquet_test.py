#!/usr/bin/python3
"""`python3 -m moetrace.parquet`: traces to Parquet and back are the same bytes, and pyarrow, polars
and DuckDB find in it the rows that moetrace.open finds in the trace. Exit code 77 without them.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

from arrow_python import ROOT  # isort: skip  (first: it chooses the python)
import duckdb
import moetrace
import moetrace.parquet
import numpy
import polars
import pyarrow.parquet
from made_trace import MadeTrace

MOETRACE = os.environ.get("MOETRACE_CLI", "moetrace")
os.environ["PATH"] = os.path.dirname(MOETRACE) + os.pathsep + os.environ["PATH"]
GOLDEN = ROOT / "trace/testdata/rows"
COLUMNS = ("seq", "request", "token_idx", "step", "layer")


class Parquet(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="moetrace-parquet.")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.groups = moetrace.parquet.GROUP_ROWS
        self.addCleanup(lambda: setattr(moetrace.parquet, "GROUP_ROWS", self.groups))

    def path(self, name):
        return self.folder / name

    def convert(self, source, target, **how):
        moetrace.parquet.convert(self.path(source), self.path(target), **how)

    def program(self, *arguments):
        done = subprocess.run(
            [MOETRACE, *arguments], cwd=self.folder, capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def refused(self, source, target, what, **how):
        before = sorted(os.listdir(self.folder))
        with self.assertRaises(moetrace.ReadError) as caught:
            self.convert(source, target, **how)
        self.assertIn(what, str(caught.exception))
        self.assertNotIn("\n", str(caught.exception))
        self.assertEqual(sorted(os.listdir(self.folder)), before)

    def test_the_same_bytes(self):
        for name, made in (
            ("whole", MadeTrace(1).run(200).end()),
            ("no end", MadeTrace(2, differ=False).run(200)),
            ("part", MadeTrace(3, part=3).run(200).end()),
            ("base", MadeTrace(4, base=True).run(200).end()),
            ("wide", MadeTrace(5, first=1 << 33).run(200).end()),
            ("no rows", MadeTrace(6)),
        ):
            with self.subTest(name):
                self.path("one.jsonl").write_text(made.text())
                self.convert("one.jsonl", "two.parquet", force=True)
                self.convert("two.parquet", "back.jsonl", force=True)
                self.assertTrue(self.path("back.jsonl").read_bytes() == made.text().encode())

    def test_many_row_groups(self):
        moetrace.parquet.GROUP_ROWS = 1000
        text = MadeTrace(7, differ=False).run(1500).end().text()
        self.path("one.jsonl").write_text(text)
        self.convert("one.jsonl", "two.parquet")
        self.assertGreater(pyarrow.parquet.ParquetFile(self.path("two.parquet")).num_row_groups, 2)
        self.convert("two.parquet", "back.jsonl")
        self.assertTrue(self.path("back.jsonl").read_text() == text)

    def test_others_find_the_same_rows(self):
        for name in ("trace", "half", "ids"):
            with self.subTest(name):
                for end in (".jsonl", ".arrows"):
                    self.path(name + end).write_bytes((GOLDEN / (name + end)).read_bytes())
                with moetrace.open(self.path(name + ".jsonl")) as trace:
                    ours = trace.read()
                lines = self.path(name + ".jsonl").read_bytes()
                # Beside the rows as Arrow: the lines are there already.
                self.convert(name + ".arrows", name + ".parquet")
                self.assertEqual(self.path(name + ".jsonl").read_bytes(), lines)
                file = str(self.path(name + ".parquet"))
                table = pyarrow.parquet.read_table(file)
                table.validate(full=True)
                frame, sql = polars.read_parquet(file), duckdb.sql(f"select * from '{file}'")
                self.compare(ours, {c: table[c].to_pylist() for c in table.column_names})
                self.compare(ours, {c: frame[c].to_list() for c in frame.columns})
                found = sql.to_arrow_table()
                self.compare(ours, {c: found[c].to_pylist() for c in found.column_names})
                # And back to rows as Arrow, which are as good.
                self.convert(name + ".parquet", "back.arrows", force=True)
                with moetrace.open(self.path("back.arrows")) as trace:
                    back = trace.read()
                for column in (*COLUMNS, "topk_ids", "topk_weights"):
                    numpy.testing.assert_array_equal(getattr(back, column), getattr(ours, column))

    def compare(self, ours, columns):
        for name in COLUMNS:
            found = [-1 if value is None else value for value in columns[name]]
            self.assertEqual(found, getattr(ours, name).tolist(), name)
        ids = [[-1 if i is None else i for i in row] for row in columns["topk_ids"]]
        self.assertEqual(ids, ours.topk_ids.tolist())
        if "topk_weights" in columns:
            weights = [
                [numpy.nan if w is None else w for w in row] for row in columns["topk_weights"]
            ]
            numpy.testing.assert_array_equal(numpy.array(weights, "float32"), ours.topk_weights)

    def test_what_other_programs_wrote(self):
        """polars rewrites the file: other row groups, lists, compression."""
        text = MadeTrace(8).run(300).end().text()
        self.path("one.jsonl").write_text(text)
        self.convert("one.jsonl", "two.parquet")
        polars.read_parquet(self.path("two.parquet")).write_parquet(
            self.path("two.parquet"), compression="snappy", row_group_size=77
        )
        self.convert("two.parquet", "back.jsonl")
        self.assertTrue(self.path("back.jsonl").read_text() == text)

    def test_damage(self):
        self.path("one.jsonl").write_text(MadeTrace(9).run(100).end().text())
        self.program("convert", "one.jsonl", "-o", "two.arrows")
        rows = self.path("two.arrows").read_bytes()
        for at in (len(rows) // 2, len(rows) - 40):
            changed = bytearray(rows)
            changed[at] ^= 1
            self.path("two.arrows").write_bytes(changed)
            self.refused("two.arrows", "two.parquet", "batch 1 is damaged: ")
        self.path("two.arrows").write_bytes(rows[:-40])
        self.refused("two.arrows", "two.parquet", "batch 1 is damaged: ")
        self.path("two.arrows").write_bytes(rows)
        self.convert("two.arrows", "two.parquet")
        frame = polars.read_parquet(self.path("two.parquet"))
        for name, other, what in (
            ("fewer", frame.head(-1), "rows, but the lines count"),
            ("order", frame.reverse(), "its rows are not in the order of seq"),
            ("columns", frame.drop("step"), "its columns are not those of a trace"),
        ):
            with self.subTest(name):
                other.write_parquet(self.path("two.parquet"))
                self.refused("two.parquet", "x.jsonl", what)
        self.path("two.parquet").write_bytes(b"PAR1 nonsense")
        self.refused("two.parquet", "x.jsonl", "two.parquet: not Parquet")

    def test_names(self):
        self.path("one.jsonl").write_text(MadeTrace(10).run(10).end().text())
        self.refused("one.jsonl", "two.jsonl", "expected one name that ends in .parquet")
        self.refused("missing.jsonl", "two.parquet", "missing.jsonl: no such file")
        self.refused("one.jsonl", "one.parquet", "one.jsonl: is a file of the input")
        self.convert("one.jsonl", "two.parquet")
        self.refused("one.jsonl", "two.parquet", "exists; give another name, or --force")
        self.path("two.jsonl").unlink()
        self.refused("two.parquet", "x.jsonl", "two.jsonl, which is not there")
        self.path("log.jsonl").write_text('{"type":"route","layer":0,"topk_ids":[1,0]}\n')
        self.refused("log.jsonl", "log2.parquet", "give --num-experts N")
        self.convert("log.jsonl", "log2.parquet", options=["--num-experts", "4"])

    def test_the_program(self):
        """Its exit codes, and an interruption."""
        text = MadeTrace(11).run(10).text()
        self.path("one.jsonl").write_text(text)
        command = [sys.executable, "-B", "-m", "moetrace.parquet"]
        env = dict(os.environ, PYTHONPATH=str(ROOT / "python"))
        run = {"cwd": self.folder, "env": env, "capture_output": True, "text": True}
        done = subprocess.run([*command, "one.jsonl", "two.parquet"], **run)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "", ""))
        done = subprocess.run([*command, "one.jsonl", "two.parquet"], **run)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"\Amoetrace\.parquet: [^\n]*two\.parquet: exists[^\n]*\n\Z")
        self.assertEqual(os.stat(self.path("two.parquet")).st_mode & 0o777, 0o640 & ~self.umask())
        os.mkfifo(self.path("pipe.jsonl"))
        with (
            subprocess.Popen(
                [*command, "pipe.jsonl", "three.parquet"],
                cwd=self.folder,
                env=env,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            ) as process,
            open(self.path("pipe.jsonl"), "w") as pipe,
        ):
            pipe.write(text)
            pipe.flush()
            os.killpg(process.pid, signal.SIGINT)
            _, error = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        self.assertIn("moetrace.parquet: interrupted; nothing was written", error)
        self.assertNotIn("Traceback", error)
        self.assertEqual(
            sorted(os.listdir(self.folder)),
            ["one.jsonl", "pipe.jsonl", "two.jsonl", "two.parquet"],
        )

    def umask(self):
        mask = os.umask(0)
        os.umask(mask)
        return mask

    def test_the_lines_name_their_rows(self):
        self.path("one.jsonl").write_text(MadeTrace(12).run(10).end().text())
        self.convert("one.jsonl", "two.parquet")
        with open(self.path("two.jsonl"), encoding="utf-8") as file:
            self.assertEqual(json.loads(file.readline())["rows"]["file"], "two.arrows")


if __name__ == "__main__":
    unittest.main(verbosity=2)
