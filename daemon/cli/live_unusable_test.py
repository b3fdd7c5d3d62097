#!/usr/bin/env python3
"""Segments that can't be used: each command names them, and serves the others.

usage: live_unusable_test.py BIN_DIR    (unittest options may follow)
"""

import json
import os
import signal
import struct
import subprocess
import unittest

import cli_case
from cli_case import plain_log, program
from live_case import LiveCase


class UnusableTest(LiveCase):
    @unittest.skipUnless(os.geteuid() == 0, "only root can run programs as other users")
    def test_segments_of_other_users_make_no_command_fail(self):
        engine, stranger = 64011, 64012
        os.chmod(self.rings, 0o1777)
        os.chmod(self.dir, 0o755)
        self.env["XDG_RUNTIME_DIR"] = ""
        plain_log(self.path("long.jsonl"), passes=5000)

        def as_user(user, *words, code=0):
            done = subprocess.run(
                [program("moetrace"), *words],
                env=self.env,
                user=user,
                group=user,
                extra_groups=[],
                capture_output=True,
                text=True,
                timeout=60,
            )
            self.assertEqual(done.returncode, code, done.stdout + done.stderr)
            return done

        def replay_of(user):
            self.started.append(
                subprocess.Popen(
                    [
                        program("moetrace"),
                        "replay",
                        "--num-experts",
                        "16",
                        "--rate",
                        "400",
                        self.path("long.jsonl"),
                    ],
                    env=self.env,
                    user=user,
                    group=user,
                    extra_groups=[],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )

        def rings():
            return [
                name
                for name in os.listdir(self.rings)
                if name.startswith("moetrace.") and name.endswith(".ring")
            ]

        replay_of(stranger)
        self.wait_for(rings, "the stranger's ring")
        for words in (["status"], ["stop"], ["top", "--once"]):
            alone = as_user(engine, *words, code=69)
            self.assertIn("no ring", alone.stderr)
            self.assertIn(f"only 1 ring of uid {stranger}", alone.stderr)
            self.assertEqual(alone.stderr.count("\n"), 1)
        replay_of(engine)
        self.wait_for(lambda: len(rings()) == 2, "the ring")
        for words in (
            ["status"],
            ["status", "--json"],
            ["stop"],
            ["start"],
            ["set", "--sample", "2"],
            ["top", "--once"],
        ):
            done = as_user(engine, *words)
            self.assertEqual(
                done.stderr,
                f"moetrace: left out 1 ring of uid {stranger}: can't be opened; "
                "run this as their user\n",
            )
            self.assertTrue(done.stdout)
        # A file that only looks like a ring does not disturb root, either.
        bad = os.path.join(self.rings, "moetrace.v1.default.11111111-2222-3333-4444-555555555555")
        for suffix in (".ring", ".ctl"):
            with open(bad + suffix, "wb") as file:
                file.write(bytes(8192))
            os.chown(bad + suffix, stranger, stranger)
        self.assertEqual(len(json.loads(self.moetrace("status", "--json"))), 2)
        self.assertIn(f"left out 1 ring of uid {stranger}", self.err)

    def test_segment_of_another_version(self):
        """Each command prints the same line for it and serves the others."""
        plain_log(self.path("plain.jsonl"))
        self.moetrace(
            "replay",
            "--num-experts",
            "16",
            "--rate",
            "1e9",
            "plain.jsonl",
            env={"MOETRACE_SESSION": "live"},
        )
        [ring] = [
            os.path.join(self.rings, name)
            for name in os.listdir(self.rings)
            if name.endswith(".ring")
        ]
        with open(ring, "r+b") as file:
            file.seek(8)  # abi_major
            file.write(struct.pack("<H", 9))
        said = (
            f"moetrace: {ring}: ABI version 9, this program supports version 1; "
            "use the collector of the producer's version; "
            "remove the segment's two files if no producer uses them\n"
        )
        self.env["MOETRACE_SESSION"] = "live"
        commands = (
            ["status"],
            ["top", "--once"],
            ["top"],
            ["top", "--json"],
            ["stop"],
            ["start"],
            ["set", "--sample", "2"],
        )
        for command in commands:
            out = self.moetrace(*command, code=1)
            self.assertEqual(
                (out, self.err), ("[]\n" if "--json" in command else "", said), command
            )
        replay, segment = self.live_replay()
        for command in commands:
            if command != ["top", "--json"]:  # which does not end
                self.assertIn(segment["trace_id"], self.moetrace(*command, code=1))
                self.assertEqual(self.err, said, command)
        lines = self.top_picture(24, 100)
        self.assertEqual(lines[0], "1 ring can't be used; moetrace status says why")
        self.assertIn(segment["trace_id"], lines[1])
        stream = self.start("moetrace", "top", "--json")
        for _ in range(2):
            self.assertIn(segment["trace_id"], stream.stdout.readline())
        stream.send_signal(signal.SIGINT)
        self.assertEqual(stream.communicate(timeout=60)[1], said)  # once
        replay.kill()
        replay.wait()
        self.moetrace("stop", code=1)
        self.assertEqual(self.err, said)


if __name__ == "__main__":
    cli_case.main()
