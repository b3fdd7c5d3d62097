#!/usr/bin/env python3
"""--directory: each command looks for rings in the given directory instead of MOETRACE_DIR.

usage: directory_test.py BIN_DIR    (unittest options may follow)
"""

import json
import os
import shlex
import shutil
import subprocess
import tempfile

import cli_case
from cli_case import CliTest, plain_log, program, rows_of


class DirectoryTest(CliTest):
    def setUp(self):
        super().setUp()
        self.elsewhere = tempfile.mkdtemp(prefix="moetrace-rings-", dir="/dev/shm")
        plain_log(self.path("long.jsonl"), passes=5000)

    def tearDown(self):
        super().tearDown()
        shutil.rmtree(self.elsewhere)

    def live_replay(self):
        """A replay in the other directory that runs until it is killed."""
        replay = self.start(
            "moetrace",
            "replay",
            "--directory",
            self.elsewhere,
            "--num-experts",
            "16",
            "--rate",
            "400",
            "long.jsonl",
        )

        def recorded():
            segment = self.segment()
            return segment and segment["recorded"] > 0 and segment

        return replay, self.wait_for(recorded, "the replay's segment")

    def segment(self):
        """What `moetrace status` says of the ring in the other directory; None without one."""
        done = subprocess.run(
            [program("moetrace"), "status", "--json", "--directory", self.elsewhere],
            env=self.env,
            capture_output=True,
            text=True,
        )
        segments = json.loads(done.stdout or "[]")
        return segments[0] if segments else None

    def test_live_segments_are_found_and_controlled(self):
        replay, segment = self.live_replay()
        self.assertEqual(segment["pid"], replay.pid)
        self.assertEqual(os.listdir(self.rings), [])
        for words in (["status"], ["top", "--once"], ["stop"], ["set", "--sample", "2"]):
            self.moetrace(*words, code=69)
            self.one_line_error()
            self.assertIn(f"moetrace: {self.rings}: no ring", self.err)
            self.assertIn("give --directory", self.err)
            self.moetrace(*words, "--directory", "/nowhere", code=69)
            self.one_line_error()
            self.assertIn("moetrace: /nowhere: no such directory; ", self.err)
        there = ["--directory", self.elsewhere]
        self.assertIn(segment["trace_id"], self.moetrace("top", "--once", *there))
        self.assertIn(": off, layers 0,2, every step\n", self.moetrace("stop", *there))
        self.assertIn(
            "\n  recording  off, layers 0,2, every step\n", self.moetrace("status", *there)
        )
        self.assertIn(": on, layers 0,2, every step\n", self.moetrace("start", *there))
        self.assertIn(
            ": on, layers 2, one step in 3\n",
            self.moetrace("set", "--layers", "2", "--sample", "3", *there),
        )

    def test_the_endpoints_are_those_of_the_directory_s_collector(self):
        self.live_replay()
        collector = self.start("moetraced", "--directory", self.elsewhere, "--output", "live.jsonl")

        def endpoints():
            return json.loads(self.moetrace("status", "--json", "--directory", self.elsewhere))[0][
                "endpoints"
            ]

        self.wait_for(
            lambda: endpoints() == [f"ipc://{self.dir}/moetrace/default.pub"], "the endpoint"
        )
        collector.kill()
        collector.wait()
        self.assertEqual(endpoints(), [])

    def test_a_dead_ring_is_kept_finished_and_removed(self):
        collector = self.start(
            "moetraced", "--directory", self.elsewhere, "--output", "cut.jsonl", "--publish", "none"
        )
        replay, _ = self.live_replay()
        self.wait_for(
            lambda: os.path.exists(self.path("cut.jsonl")) and rows_of(self.path("cut.jsonl")),
            "the first rows",
        )
        collector.kill()
        collector.wait()
        # The ring is kept for the rows that no collector has drained.
        self.wait_for(
            lambda: self.segment()["recorded"] > self.segment()["consumed"], "undelivered rows"
        )
        replay.kill()
        replay.wait()
        self.moetrace("verify", "cut.jsonl", code=1)
        self.assertIn(f"its ring is not in {self.rings}; give --directory", self.err)
        self.assertIn("the end of the file was cut off, or the ring was lost", self.err)
        self.moetrace(
            "verify", "--directory", os.path.relpath(self.elsewhere, self.dir), "cut.jsonl", code=1
        )
        self.one_line_error()
        self.assertIn(f" --session default --directory {self.elsewhere} ", self.err)
        self.assertEqual(
            self.moetrace("clean", "--dry-run"), "would remove 0 files, kept 0 rings\n"
        )
        kept = self.moetrace("clean", "--directory", self.elsewhere)
        self.assertRegex(kept, f"kept {self.elsewhere}/moetrace[^ ]*ring: ")
        command = self.err_command("verify", "--directory", self.elsewhere, "cut.jsonl")
        subprocess.run(
            command, env=self.env, cwd=self.dir, check=True, capture_output=True, timeout=60
        )
        self.moetrace("verify", "cut.jsonl")
        self.assertEqual(
            [name for name in os.listdir(self.elsewhere) if name.endswith(".ring")], []
        )

    def err_command(self, *words):
        """The command in the error line of a failing command."""
        self.moetrace(*words, code=1)
        return shlex.split(self.err.split("run: ", 1)[1])

    def test_run_gives_the_directory_to_command_and_collector(self):
        plain_log(self.path("plain.jsonl"))
        inner = (
            f'ls "$MOETRACE_DIR" > seen; cd /; echo "$MOETRACE_DIR" > {self.dir}/directory; '
            f"exec {program('moetrace')} replay --num-experts 16 {self.dir}/plain.jsonl"
        )
        relative = os.path.relpath(self.elsewhere, self.dir)
        self.moetrace(
            "run",
            "--directory",
            relative,
            "-o",
            "run.jsonl",
            "--publish",
            "none",
            "--",
            "sh",
            "-c",
            inner,
        )
        self.moetrace("verify", "run.jsonl")
        self.assertEqual(rows_of(self.path("run.jsonl")), rows_of(self.path("plain.jsonl")))
        with open(self.path("directory"), encoding="utf-8") as file:
            self.assertEqual(file.read(), self.elsewhere + "\n")
        with open(self.path("seen"), encoding="utf-8") as file:
            self.assertIn("moetrace.", file.read())
        self.assertEqual(os.listdir(self.rings), [])

    def test_help_and_a_missing_directory(self):
        for command in (
            "run",
            "status",
            "top",
            "start",
            "stop",
            "set",
            "verify",
            "replay",
            "clean",
        ):
            self.assertIn("--directory", self.moetrace(command, "--help"))
        missing = self.path("missing")
        self.moetrace("clean", "--directory", missing, code=1)
        self.one_line_error()
        self.assertIn(missing, self.err)
        self.moetrace("replay", "--directory", missing, "--num-experts", "16", "long.jsonl", code=1)
        self.one_line_error()
        self.assertFalse(os.path.exists(missing))


if __name__ == "__main__":
    cli_case.main()
