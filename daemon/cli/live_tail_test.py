#!/usr/bin/env python3
"""`moetrace tail`: the lines that a collector publishes, and what it says without them.

usage: live_tail_test.py BIN_DIR    (unittest options may follow)
"""

import json
import select
import signal
import socket

import cli_case
from live_case import LiveCase


class TailTest(LiveCase):
    def test_tail_prints_the_files_own_lines(self):
        self.moetrace("tail", code=69)
        self.one_line_error()
        daemon = self.publishing_collector()
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
        daemon = self.publishing_collector()
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
        self.publishing_collector("--publish", "tcp://127.0.0.1:*")
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
