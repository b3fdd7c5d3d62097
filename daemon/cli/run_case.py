"""Shared by the tests of `moetrace run`."""

import os
import re
import subprocess

from cli_case import CliTest, children, program


class RunCase(CliTest):
    def collectors_of(self, run):
        """The process ids of its moetraced; a child without an executable has ended."""
        found = []
        for pid in children(run.pid):
            try:
                if os.readlink(f"/proc/{pid}/exe").endswith("/moetraced"):
                    found.append(pid)
            except FileNotFoundError:
                pass
        return found

    def gated_replay(self, log, *options):
        """A run whose COMMAND says "up" and replays once it has read a line."""
        replay = f"{program('moetrace')} replay --num-experts 16 {log}"
        run = self.start(
            "moetrace",
            "run",
            *options,
            "--",
            "sh",
            "-c",
            f"echo up; read go; {replay}",
            stdin=subprocess.PIPE,
        )
        self.assertEqual(run.stdout.readline(), "up\n")
        return run

    def reported(self, error_text):
        """The files that a run's report names, each with its number of rows."""
        return {
            file: int(rows.replace(",", ""))
            for file, rows in re.findall(
                r"^moetrace: (\S+): ([\d,]+) rows of .*, verified", error_text, re.MULTILINE
            )
        }
