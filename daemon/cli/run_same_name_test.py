#!/usr/bin/env python3
"""Traces that begin at one instant under one file name: each file holds one complete trace.

usage: run_same_name_test.py BIN_DIR    (unittest options may follow)
"""

import glob
import os
import subprocess

import cli_case
from cli_case import lines_of, plain_log, program
from run_case import RunCase

ROUNDS = 20  # without the lock, one round in two fails


class RunSameNameTest(RunCase):
    def setUp(self):
        super().setUp()
        self.rows = {}
        for name, passes in (("few.jsonl", 20), ("many.jsonl", 45)):
            plain_log(self.path(name), passes=passes)
            self.rows[name] = len(lines_of(self.path(name), "route"))
        self.replay = f"{program('moetrace')} replay --num-experts 16"

    def rows_of_good_traces(self):
        """Checks that each file t*.jsonl holds one trace, removes it, and returns its rows."""
        found = {}
        for path in sorted(glob.glob(self.path("t*.jsonl"))):
            [meta] = lines_of(path, "meta")
            self.assertEqual(len(lines_of(path, "end")), 1)
            self.moetrace("verify", path)
            self.assertNotIn(meta["trace_id"], [trace for trace, _ in found.values()])
            found[os.path.basename(path)] = (meta["trace_id"], len(lines_of(path, "route")))
            os.unlink(path)
        return {name: rows for name, (_, rows) in found.items()}

    def test_two_rings_of_one_run(self):
        for _ in range(ROUNDS):
            self.moetrace(
                "run",
                "-o",
                "t.jsonl",
                "--",
                "sh",
                "-c",
                f"{self.replay} few.jsonl & {self.replay} many.jsonl & wait",
            )
            reported = self.reported(self.err)
            self.assertEqual(set(reported), {"t.jsonl", "t.2.jsonl"})
            self.assertEqual(sorted(reported.values()), sorted(self.rows.values()))
            self.assertEqual(self.rows_of_good_traces(), reported)
            self.assertEqual(os.listdir(self.rings), [])

    def test_two_runs_with_the_same_output(self):
        """Both COMMANDs wait for one pipe, and begin when it closes."""
        for _ in range(ROUNDS):
            gate, opener = os.pipe()
            runs = {}
            for name in self.rows:
                runs[name] = self.start(
                    "moetrace",
                    "run",
                    "-o",
                    "t.jsonl",
                    "--",
                    "sh",
                    "-c",
                    f"echo up; read go; {self.replay} {name}",
                    stdin=gate,
                )
            os.close(gate)
            for run in runs.values():
                self.assertEqual(run.stdout.readline(), "up\n")
            os.close(opener)
            files = {}
            for name, run in runs.items():
                _, err = run.communicate(timeout=60)
                self.assertEqual(run.returncode, 0, err)
                reported = self.reported(err)
                self.assertEqual(list(reported.values()), [self.rows[name]], err)
                files |= reported
            self.assertEqual(set(files), {"t.jsonl", "t.2.jsonl"})
            self.assertEqual(self.rows_of_good_traces(), files)

    def test_two_runs_started_together(self):
        """The race includes the check of the output folder; with the default name."""
        for _ in range(ROUNDS):
            runs = {
                name: subprocess.Popen(
                    [program("moetrace"), "run", "--", "sh", "-c", f"{self.replay} {name}"],
                    env=self.env,
                    cwd=self.dir,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                )
                for name in self.rows
            }
            self.started += runs.values()
            files = {}
            for name, run in runs.items():
                _, err = run.communicate(timeout=60)
                self.assertEqual(run.returncode, 0, err)
                reported = self.reported(err)
                self.assertEqual(list(reported.values()), [self.rows[name]], err)
                files |= reported
            self.assertEqual(set(files), {"trace.jsonl", "trace.2.jsonl"})
            self.assertEqual(self.rows_of_good_traces(), files)


if __name__ == "__main__":
    cli_case.main()
