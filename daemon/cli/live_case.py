"""Shared by the tests of live segments: a long replay, a collector that publishes, a terminal."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import termios

from cli_case import CliTest, plain_log, program


class LiveCase(CliTest):
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

    def publishing_collector(self, *options):
        """A collector of the session "live", once the endpoint that it publishes on is listed."""
        self.env["MOETRACE_SESSION"] = "live"
        daemon = self.start("moetraced", "--output", "out.jsonl", *options)
        self.wait_for(lambda: os.path.exists(self.path("moetrace/live.endpoint")), "the endpoint")
        return daemon

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
