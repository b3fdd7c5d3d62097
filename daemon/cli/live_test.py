#!/usr/bin/env python3
"""The commands that show and change live segments: status, top, tail, start, stop, set.

usage: live_test.py BIN_DIR    (unittest options may follow)
"""

import fcntl
import json
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import termios
import unittest

import cli_case
from cli_case import CliTest, plain_log, program


class LiveTest(CliTest):
    def live_replay(self, session="live", rate="400"):
        """A long replay, once status shows it."""
        plain_log(self.path("long.jsonl"), passes=5000)
        self.env["MOETRACE_SESSION"] = session
        replay = self.start(
            "moetrace", "replay", "--num-experts", "16", "--rate", rate, "long.jsonl"
        )

        def segment():
            done = subprocess.run(
                [program("moetrace"), "status", "--json", "--session", session],
                env=self.env,
                capture_output=True,
                text=True,
            )
            segments = json.loads(done.stdout or "[]")
            return segments and segments[0]["recorded"] > 0 and segments[0]

        return replay, self.wait_for(segment, "the replay's segment")

    def test_status_and_top_show_a_live_segment(self):
        self.moetrace("status", code=69)
        self.one_line_error()
        self.moetrace("top", "--once", code=69)
        replay, segment = self.live_replay()
        self.assertEqual(segment["pid"], replay.pid)
        self.assertEqual(segment["producer"], "alive")
        self.assertEqual(segment["collector"], "none")
        self.assertEqual(segment["model_id"], "made/up")
        self.assertEqual(segment["dropped"], 0)
        self.assertGreater(segment["cost"]["announce_ns"], 0)
        self.wait_for(
            lambda: json.loads(self.moetrace("status", "--json"))[0]["cost"]["hook_ns"] > 0,
            "the hook's time",
        )
        text = self.moetrace("status")
        self.assertRegex(
            text,
            r"\n  cost       \d+\.\d ms in announcements, \d+\.\d ms in the hook; "
            r"\d+\.\d\d us a step\n",
        )
        self.assertIn("\n  recording  on, layers 0,2, every step\n", text)
        self.assertEqual(
            (segment["enabled"], segment["layers"], segment["sample_every"]), (True, [0, 2], 1)
        )
        self.assertIn(segment["trace_id"], text)
        self.assertLessEqual(max(map(len, text.splitlines())), 100)
        top = self.wait_for(
            lambda: [
                s
                for s in json.loads(self.moetrace("top", "--once", "--json"))
                if s["layers"][0]["selections"] > 0
            ],
            "counts",
        )[0]
        self.assertEqual([layer["layer"] for layer in top["layers"]], [0, 1, 2])
        for layer in (0, 2):
            self.assertGreater(sum(top["layers"][layer]["counts"]), 0)
            counts = top["layers"][layer]["counts"]
            self.assertAlmostEqual(
                top["layers"][layer]["max_over_mean"], max(counts) * len(counts) / sum(counts)
            )
        watch = self.start("moetrace", "top", "--json")
        self.assertIn(segment["trace_id"], watch.stdout.readline())
        replay.kill()
        replay.wait()
        dead = json.loads(self.moetrace("status", "--json"))[0]
        self.assertEqual(dead["producer"], "dead")
        daemon = self.start("moetraced", "--output", "out.jsonl", "--publish", "none", "--once")
        daemon.communicate(timeout=60)
        self.assertEqual(daemon.returncode, 0)
        self.assertEqual(
            watch.communicate(timeout=60)[1], "moetrace: top: the last trace has ended\n"
        )
        self.assertEqual(watch.returncode, 0)

    def test_status_shows_no_endpoint_of_a_collector_that_is_gone(self):
        self.env["MOETRACE_SESSION"] = "live"
        daemon = self.start("moetraced", "--output", "out.jsonl")
        self.wait_for(lambda: os.path.exists(self.path("moetrace/live.endpoint")), "the endpoint")
        replay, _ = self.live_replay()
        endpoint = f"ipc://{self.dir}/moetrace/live.pub"

        def endpoints():
            [segment] = json.loads(self.moetrace("status", "--json"))
            return segment["endpoints"]

        self.assertEqual(endpoints(), [endpoint])
        self.assertIn(f"\n  endpoint   {endpoint}\n", self.moetrace("status"))
        daemon.kill()
        daemon.wait()
        self.assertTrue(os.path.exists(self.path("moetrace/live.endpoint")))
        self.assertEqual(endpoints(), [])
        self.assertIn("\n  endpoint   none, no collector runs\n", self.moetrace("status"))
        # The next collector does not publish.
        second = self.start("moetraced", "--output", "out.jsonl", "--publish", "none")
        self.wait_for(
            lambda: json.loads(self.moetrace("status", "--json"))[0]["collector"] == "attached",
            "the second collector",
        )
        self.assertEqual(endpoints(), [])
        self.assertIn("\n  endpoint   none\n", self.moetrace("status"))
        self.assertFalse(os.path.exists(self.path("moetrace/live.endpoint")))
        second.kill()
        replay.kill()

    def test_status_shows_no_tcp_endpoint_of_a_collector_that_is_gone(self):
        """A port does not show its owner, so the list counts only while its collector lives."""
        self.env["MOETRACE_SESSION"] = "live"
        listed = self.path("moetrace/live.endpoint")
        daemon = self.start("moetraced", "--output", "out.jsonl", "--publish", "tcp://127.0.0.1:*")
        self.wait_for(lambda: os.path.exists(listed), "the endpoint")
        self.live_replay()

        def endpoints():
            [segment] = json.loads(self.moetrace("status", "--json"))
            return segment["endpoints"]

        with open(listed, encoding="utf-8") as file:
            text = file.read()
        self.assertEqual(endpoints(), text.splitlines())
        daemon.kill()
        daemon.wait()
        self.assertEqual(endpoints(), [])
        self.start("moetraced", "--output", "out.jsonl", "--publish", "none")
        self.wait_for(
            lambda: json.loads(self.moetrace("status", "--json"))[0]["collector"] == "attached",
            "the second collector",
        )
        with open(listed, "w", encoding="utf-8") as file:  # like a killed collector's
            file.write(text)
        self.assertEqual(endpoints(), [])
        self.moetrace("tail", code=69)
        self.one_line_error()

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
            self.assertIn("no segment", alone.stderr)
            self.assertIn(f"only 1 segment of uid {stranger}", alone.stderr)
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
                f"moetrace: left out 1 segment of uid {stranger}: can't be opened; "
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
        self.assertIn(f"left out 1 segment of uid {stranger}", self.err)

    def top_on_terminal(self, rows, columns, *options):
        """The program, and its terminal of this size."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
        top = subprocess.Popen(
            [program("moetrace"), "top", *options], env=self.env, stdout=theirs, stderr=theirs
        )
        self.started.append(top)
        os.close(theirs)
        return top, ours

    def top_picture(self, rows, columns):
        """The lines of the first picture on a terminal of this size."""
        top, ours = self.top_on_terminal(rows, columns)
        drawn = b""
        while b"\x1b[J" not in drawn:  # the picture's end
            drawn += os.read(ours, 4096)
        top.send_signal(signal.SIGINT)
        os.close(ours)
        top.wait(timeout=60)
        self.assertTrue(drawn.startswith(b"\x1b[H"))
        lines = drawn.decode().split("\x1b[J")[0].removeprefix("\x1b[H").split("\x1b[K\r\n")
        self.assertEqual(lines.pop(), "")
        return lines

    def test_top_fits_the_terminal(self):
        replay, segment = self.live_replay()
        for rows, columns in ((24, 80), (4, 120), (10, 20)):
            lines = self.top_picture(rows, columns)
            self.assertEqual(len(lines), min(rows - 1, 5))  # two header lines and three layers
            self.assertLessEqual(max(map(len, lines)), columns)
        replay.kill()

    def test_top_fits_with_many_experts_and_layers(self):
        """Three long ids with two-digit shares in each layer, and a model name that is too long."""
        with open(self.path("wide.jsonl"), "w", encoding="utf-8") as file:
            file.write(
                json.dumps(
                    {
                        "type": "meta",
                        "model_id": "m" * 60,
                        "top_k": 3,
                        "layers_logged": list(range(94)),
                    }
                )
                + "\n"
            )
            for layer in range(94):
                file.write(
                    json.dumps(
                        {
                            "type": "route",
                            "req_id": "a",
                            "token_idx": 0,
                            "layer": layer,
                            "topk_ids": [127, 126, 125],
                            "topk_weights": [0.5, 0.3, 0.2],
                        }
                    )
                    + "\n"
                )
        self.moetrace("replay", "--num-experts", "128", "--rate", "1e9", "wide.jsonl")
        for columns in (None, 120, 80, 72, 30):
            if columns is None:
                lines = self.moetrace("top", "--once").splitlines()
            else:
                top, terminal = self.top_on_terminal(24, columns, "--once")
                with open(terminal, "rb", buffering=0) as output:
                    text = b""
                    while text.count(b"\n") < 96:  # two header lines and the layers
                        text += output.read(4096)
                self.assertEqual(top.wait(timeout=60), 0)
                lines = text.decode().splitlines()
            self.assertEqual(len(lines), 96)
            self.assertLessEqual(max(map(len, lines)), columns or 80)
            if columns != 30:
                self.assertIn("  step 1", lines[0])
                for line in lines[2:]:  # the last cell holds the last experts
                    self.assertRegex(line, r"  125:33\.3  126:33\.3  127:33\.3 +█\Z")
        lines = self.top_picture(24, 80)
        self.assertEqual((len(lines), lines[-1]), (23, "(74 more lines)"))
        self.assertLessEqual(max(map(len, lines)), 80)

    def test_control_words(self):
        self.moetrace("stop", code=69)
        replay, segment = self.live_replay()
        ctl = os.path.join(self.rings, f"moetrace.v1.live.{segment['trace_id']}.ctl")

        def words():
            with open(ctl, "rb") as file:
                file.seek(384)  # 4 lines of 64 bytes, 2 of the ledger
                return struct.unpack("<QII4Q", file.read(48))

        before = words()
        self.assertEqual(before[1:4], (1, 1, 0b101))
        self.moetrace("stop")
        self.assertEqual(words()[1], 0)
        self.moetrace("start")
        self.assertEqual(words()[1], 1)
        self.moetrace("set", "--layers", "1-2", "--sample", "10")
        self.assertEqual(words()[1:4], (1, 10, 0b110))
        self.assertEqual(words()[0], before[0] + 6)
        self.assertIn("\n  recording  on, layers 1-2, one step in 10\n", self.moetrace("status"))
        self.moetrace("set", "--layers", "1,7", code=2)
        self.one_line_error()
        self.moetrace("set", code=2)
        self.assertEqual(words()[1:4], (1, 10, 0b110))
        self.moetrace("set", "--sample", "0", "--session", "other", code=69)
        self.moetrace(
            "set",
            "--sample",
            "0",
            "--trace",
            segment["trace_id"][:8],
            env={"MOETRACE_SESSION": "other"},
        )
        self.assertEqual(words()[2], 0)
        replay.kill()

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
        self.assertEqual(lines[0], "1 segment can't be used; moetrace status says why")
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

    def test_tail_prints_the_files_own_lines(self):
        self.moetrace("tail", code=69)
        self.one_line_error()
        self.env["MOETRACE_SESSION"] = "live"
        daemon = self.start("moetraced", "--output", "out.jsonl")
        self.wait_for(lambda: os.path.exists(self.path("moetrace/live.endpoint")), "the endpoint")
        replay, _ = self.live_replay()
        tail = self.start("moetrace", "tail", "--json", "--count", "200")
        out, err = tail.communicate(timeout=60)
        self.assertEqual(tail.returncode, 0, err)
        self.assertIn(" 0 missed", err)
        lines = out.splitlines()
        self.assertEqual(len(lines), 200)
        self.assertEqual(sum('"type":"meta"' in line for line in lines), 1)
        with open(self.path("out.jsonl"), encoding="utf-8") as file:
            self.assertLessEqual(set(lines), set(file.read().splitlines()))
        short = self.moetrace("tail", "--count", "3", "--topic", "route").splitlines()
        self.assertEqual(len(short), 3)
        self.assertIn(" layer ", short[0])
        stats = json.loads(self.moetrace("tail", "--count", "1", "--topic", "stats", "--json"))
        self.assertEqual(stats["num_experts"], 16)
        replay.kill()
        replay.wait()
        daemon.send_signal(signal.SIGTERM)
        daemon.communicate(timeout=60)
        self.assertEqual(daemon.returncode, 0)

    def test_tail_sees_a_socket_without_a_server(self):
        self.env["MOETRACE_SESSION"] = "live"
        daemon = self.start("moetraced", "--output", "out.jsonl")
        self.wait_for(lambda: os.path.exists(self.path("moetrace/live.endpoint")), "the endpoint")
        daemon.kill()
        daemon.wait()
        self.moetrace("tail", code=69)
        self.one_line_error()

    def test_tail_says_that_it_is_not_connected_and_waits(self):
        self.env["MOETRACE_SESSION"] = "live"
        with socket.create_server(("127.0.0.1", 0)) as server:
            endpoint = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        tail = self.start("moetrace", "tail", "--endpoint", endpoint, "--count", "3")
        self.assertEqual(
            tail.stderr.readline(),
            f"moetrace: tail: no collector publishes on {endpoint} yet; "
            f"start moetraced --publish {endpoint}, "
            "or check the endpoint; waiting\n",
        )
        self.start("moetraced", "--output", "out.jsonl", "--publish", endpoint)
        replay, _ = self.live_replay()
        out, err = tail.communicate(timeout=60)
        self.assertEqual((tail.returncode, len(out.splitlines())), (0, 3), err)
        replay.kill()

    def test_tail_is_quiet_beside_a_collector_without_a_trace(self):
        self.env["MOETRACE_SESSION"] = "live"
        self.start("moetraced", "--output", "out.jsonl", "--publish", "tcp://127.0.0.1:*")
        self.wait_for(lambda: os.path.exists(self.path("moetrace/live.endpoint")), "the endpoint")
        tail = self.start("moetrace", "tail")
        self.assertEqual(
            select.select([tail.stderr, tail.stdout], [], [], 4)[0], []
        )  # longer than it waits for a connection
        tail.send_signal(signal.SIGINT)
        self.assertEqual(
            tail.communicate(timeout=60), ("", "moetrace: tail: 0 rows received, 0 missed\n")
        )


if __name__ == "__main__":
    cli_case.main()
