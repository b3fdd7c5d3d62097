"""Shared by the tests of configuration files and output names."""

import json
import re
import subprocess

from harness import MOETRACE, MOETRACED, Case

ONE_LINE = re.compile(r"\Amoetraced: [^\n]+\n\Z")


def lines_of(path):
    """The whole lines of a file that may still grow."""
    whole = path.read_bytes().rpartition(b"\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


def layers_of(path):
    return {line["layer"] for line in lines_of(path) if line["type"] == "route"}


class ConfigCase(Case):
    def setUp(self):
        super().setUp()
        self.config = self.folder / "config.json"
        self.traces.mkdir()

    def write(self, **settings):
        """At once: a collector may be reading the file."""
        new = self.folder / "config.json.new"
        new.write_text(json.dumps(settings))
        new.rename(self.config)

    def moetraced(self, *arguments, env=None):
        return subprocess.run(
            [MOETRACED, *map(str, arguments)],
            env={**self.env, **(env or {})},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def verify(self, *paths):
        done = subprocess.run(
            [MOETRACE, "verify", *paths], env=self.env, capture_output=True, text=True
        )
        self.assertEqual(done.returncode, 0, done.stderr)

    def refused_config(self, text, said):
        self.config.write_bytes(text)
        result = self.moetraced("--config", self.config)
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertRegex(result.stderr, ONE_LINE)
        self.assertTrue(
            result.stderr.startswith(f"moetraced: {self.config}: {said}"), result.stderr
        )
