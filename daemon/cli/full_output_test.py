#!/usr/bin/env python3
"""A full standard output gives one line and exit code 1. A closed one changes no other file.

usage: full_output_test.py BIN_DIR    (unittest options may follow)
"""

import os
import subprocess

import cli_case
from cli_case import CliTest, plain_log, program

# The reason is unknown if the text was longer than the output buffer.
NO_ROOM = (
    r"standard output: can't write all of it(: No space left on device)?; "
    r"redirect it to a disk with space\n\Z"
)


class FullOutputTest(CliTest):
    def assert_full(self, name, *arguments):
        with open("/dev/full", "w", encoding="ascii") as full:
            done = subprocess.run(
                [program(name), *arguments],
                env=self.env,
                cwd=self.dir,
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=60,
            )
        self.assertEqual(done.returncode, 1, (name, arguments, done.stderr))
        self.assertRegex(done.stderr, f"(?m)^{name}: {NO_ROOM}", arguments)
        self.assertEqual(done.stderr.count("standard output"), 1)

    def live_replay(self):
        """A replay that lives until the returned pipe is closed, and its collector."""
        collector = self.start("moetraced", "--output-dir", "traces")
        self.assertIn("ready", collector.stderr.readline())
        os.mkfifo(self.path("feed"))
        self.start("moetrace", "replay", "--num-experts", "16", "feed")
        pipe = open(self.path("feed"), "w", encoding="utf-8")
        self.addCleanup(pipe.close)
        with open(self.path("plain.jsonl"), encoding="utf-8") as log:
            pipe.write(log.read())
        pipe.flush()
        self.assertIn("begins", collector.stderr.readline())

    def test_a_full_disk(self):
        plain_log(self.path("plain.jsonl"))
        for name in ("moetrace", "moetraced", "moetrace-plot"):
            self.assert_full(name, "--help")
            self.assert_full(name, "--version")
        self.assert_full("moetrace", "run", "--help")
        self.assert_full("moetrace", "verify", "plain.jsonl")
        self.assert_full("moetrace-plot", "plain.jsonl", "--num-experts", "16", "-o", "pictures")
        self.live_replay()
        self.assert_full("moetrace", "replay", "--num-experts", "16", "plain.jsonl")
        self.assert_full("moetrace", "status")
        self.assert_full("moetrace", "status", "--json")
        self.assert_full("moetrace", "top")
        self.assert_full("moetrace", "top", "--json")
        self.assert_full("moetrace", "tail", "--topic", "meta")
        self.assert_full("moetrace", "set", "--sample", "2")
        self.assert_full("moetrace", "stop")
        self.assert_full("moetrace", "start")

    def test_a_reader_that_has_enough_is_no_failure(self):
        plain_log(self.path("plain.jsonl"))
        self.live_replay()
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [program("moetrace"), "tail", "--topic", "meta", "--count", "1"],
            env=self.env,
            cwd=self.dir,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
        os.close(writer)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_closed_output_is_an_error(self):
        done = subprocess.run(
            ["sh", "-c", '"$0" --version >&-', program("moetrace")],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"\Amoetrace: standard output: can't write all of it")

    def test_nothing_is_said_into_a_file_that_has_a_closed_outputs_number(self):
        plain_log(self.path("plain.jsonl"))
        ready, write_end = os.pipe()
        collector = subprocess.Popen(
            [
                "sh",
                "-c",
                f'exec "$0" --output-dir traces --ready-fd {write_end} <&- >&- 2>&-',
                program("moetraced"),
            ],
            env=self.env,
            cwd=self.dir,
            pass_fds=[write_end],
        )
        self.started.append(collector)
        os.close(write_end)
        with os.fdopen(ready, encoding="utf-8") as pipe:
            self.assertIn("ready", pipe.readline())
        self.assertEqual(
            {os.readlink(f"/proc/{collector.pid}/fd/{number}") for number in range(3)},
            {"/dev/null"},
        )


if __name__ == "__main__":
    cli_case.main()
