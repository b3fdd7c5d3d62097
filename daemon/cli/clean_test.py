#!/usr/bin/env python3
"""moetrace clean, and what the next start removes: the files of killed collectors and engines.

Files of live collectors and engines stay.

usage: clean_test.py BIN_DIR    (unittest options may follow)
"""

import json
import os
import pathlib
import signal
import subprocess
import unittest

import cli_case
from cli_case import CliTest, plain_log, program, rows_of


@unittest.skipIf(
    os.access("/run/moetrace", os.W_OK), "/run/moetrace is here: collectors publish there"
)
class CleanTest(CliTest):
    def setUp(self):
        super().setUp()
        self.env["TMPDIR"] = self.dir

    def left(self):
        """Files in the ring directory and in the runtime folder."""
        runtime = self.path("moetrace")
        return sorted(os.listdir(self.rings)) + (
            sorted(os.listdir(runtime)) if os.path.isdir(runtime) else []
        )

    def killed_run(self):
        """The files of a `moetrace run` that was killed, processes and all, before its ring."""
        run = self.start(
            "moetrace",
            "run",
            "-o",
            "killed.jsonl",
            "--",
            "sh",
            "-c",
            "echo running; exec sleep 1000",
            start_new_session=True,
        )
        self.assertEqual(run.stdout.readline(), "running\n")
        collector = [
            pid
            for pid in cli_case.children(run.pid)
            if "moetraced" in pathlib.Path(f"/proc/{pid}/cmdline").read_text()
        ]
        self.assertEqual(len(collector), 1)
        # Stop the run first: otherwise it would start another collector, or end this one.
        for pid, number in (
            (run.pid, signal.SIGSTOP),
            (collector[0], signal.SIGKILL),
            (run.pid, signal.SIGKILL),
        ):
            os.kill(pid, number)
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        self.wait_for(lambda: not os.path.exists(f"/proc/{collector[0]}"), "the collector's end")

    def killed_replay(self, session="dead"):
        """Makes a ring that no collector has seen; returns its number of rows."""
        plain_log(self.path("log.jsonl"), passes=5000)
        replay = self.start_in(
            session, "moetrace", "replay", "--num-experts", "16", "--rate", "400", "log.jsonl"
        )
        self.wait_for(
            lambda: [s for s in self.status(session) if s["recorded"] > 0], "rows in the ring"
        )
        replay.kill()
        replay.communicate()
        return self.status(session)[0]

    def start_in(self, session, *words):
        self.env["MOETRACE_SESSION"] = session
        process = self.start(*words)
        del self.env["MOETRACE_SESSION"]
        return process

    def status(self, session):
        done = subprocess.run(
            [program("moetrace"), "status", "--json", "--session", session],
            env=self.env,
            capture_output=True,
            text=True,
        )
        return json.loads(done.stdout or "[]")

    def test_the_next_start_removes_what_a_killed_run_left(self):
        for begin in (
            ["moetrace", "run", "-o", "next.jsonl", "--", "true"],
            ["moetraced", "--output-dir", ".", "--session", "other"],
        ):
            self.killed_run()
            self.assertEqual(len(self.left()), 3, self.left())
            process = self.start(*begin)
            if begin[0] == "moetraced":
                self.wait_for(lambda: "other.endpoint" in self.left(), "the other collector")
                self.assertFalse([name for name in self.left() if "run-" in name])
                process.terminate()
            process.communicate(timeout=60)
            self.assertEqual(self.left(), [])

    def test_it_shows_and_then_removes_dead_files(self):
        self.killed_run()
        daemon = self.start("moetraced", "--output-dir", ".", "--session", "alive")
        self.wait_for(lambda: "alive.endpoint" in self.left(), "the collector")
        # The collector's start removed them: make them again while it runs.
        self.killed_run()
        left = self.left()
        shown = self.moetrace("clean", "--dry-run")
        self.assertEqual(self.left(), left)
        self.assertEqual(shown.count("would remove /"), 3, shown)
        self.assertIn("would remove 3 files, kept 0 rings\n", shown)
        self.assertEqual(self.moetrace("clean"), shown.replace("would remove", "removed"))
        self.assertEqual([name for name in self.left() if "alive" not in name], [])
        self.assertEqual(len(self.left()), 3)
        self.assertEqual(self.moetrace("clean"), "removed 0 files, kept 0 rings\n")
        daemon.terminate()
        self.assertEqual(daemon.wait(60), 0)
        self.assertEqual(self.left(), [])

    def test_a_ring_with_rows_is_kept_and_the_line_drains_it(self):
        rows = self.killed_replay()["recorded"]
        ring = [name for name in os.listdir(self.rings) if name.endswith(".ring")][0]
        said = self.moetrace("clean")
        self.assertRegex(
            said, rf"kept {self.rings}/{ring}: [\d,]+ rows not delivered; drain it with "
        )
        self.assertIn("removed 0 files, kept 1 ring\n", said)
        command = said.split("drain it with ")[1].split(", or")[0].split()
        self.assertEqual(command[0], "moetraced")
        done = subprocess.run(
            [program("moetraced"), *command[1:], "--publish", "none", "--output", "out.jsonl"],
            env=self.env,
            cwd=self.dir,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertGreaterEqual(len(rows_of(self.path("out.jsonl"))), rows)
        self.assertEqual(self.left(), [])

    def test_rows_are_discarded_when_asked(self):
        self.killed_replay()
        shown = self.moetrace("clean", "--discard-rows", "--dry-run")
        self.assertIn("would remove 2 files, kept 0 rings\n", shown)
        self.assertEqual(len(self.left()), 2)
        self.assertEqual(
            self.moetrace("clean", "--discard-rows", "--session", "other"),
            "removed 0 files, kept 0 rings\n",
        )
        self.assertEqual(len(self.left()), 2)
        self.assertIn(
            "removed 2 files, kept 0 rings\n",
            self.moetrace("clean", "--discard-rows", "--session", "dead"),
        )
        self.assertEqual(self.left(), [])

    def test_a_living_engine_is_left_alone(self):
        plain_log(self.path("log.jsonl"), passes=5000)
        replay = self.start_in(
            "live", "moetrace", "replay", "--num-experts", "16", "--rate", "400", "log.jsonl"
        )
        self.wait_for(lambda: self.status("live"), "the ring")
        self.assertEqual(
            self.moetrace("clean", "--discard-rows"), "removed 0 files, kept 0 rings\n"
        )
        self.assertEqual(len(self.left()), 2)
        replay.kill()

    def test_half_built_segments(self):
        name = "moetrace.v1.s.11111111-2222-3333-4444-555555555555"
        for file in (f".building.{name}.ctl", f".building.{name}.ring"):
            with open(os.path.join(self.rings, file), "wb") as half:
                half.write(bytes(4096))
        self.assertIn("would remove 2 files, kept 0 rings\n", self.moetrace("clean", "--dry-run"))
        self.assertIn("removed 2 files, kept 0 rings\n", self.moetrace("clean"))
        self.assertEqual(self.left(), [])

    def test_a_ring_that_cannot_be_read_is_kept(self):
        name = "moetrace.v1.s.11111111-2222-3333-4444-555555555555"
        for suffix in ("ring", "ctl"):
            with open(os.path.join(self.rings, f"{name}.{suffix}"), "wb") as bad:
                bad.write(bytes(8192))
        self.assertIn("can't be read, so its rows are unknown", self.moetrace("clean"))
        self.assertIn("removed 2 files, kept 0 rings\n", self.moetrace("clean", "--discard-rows"))

    def test_usage(self):
        self.moetrace("clean", "--session", "a b", code=2)
        self.one_line_error()
        self.moetrace("clean", code=1, env={"MOETRACE_DIR": self.path("missing")})
        self.one_line_error()


if __name__ == "__main__":
    cli_case.main()
