"""A full disk: the collector says so once. The ring holds the rows until there is room again.

No row is lost."""

import os
import pathlib
import re
import subprocess
import sys
import unittest

from harness import MOETRACE, TIMEOUT_S, Case, Collector, Replay, routes_in, wait_until

RATE = 60_000  # rows a second; the default ring of 64 MiB holds a million
ROWS_WHILE_FULL = 60_000  # a second of them
SKIPPED = 77


class DiskFull(Case):
    def setUp(self):
        super().setUp()
        self.traces.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", self.traces], check=True)
        self.addCleanup(subprocess.run, ["umount", "--lazy", self.traces], check=True)
        self.ballast = self.traces / "ballast"

    def fill(self):
        """Fills the disk to the last byte, at the end page by page: the collector finds no room."""
        with self.ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12):
                try:
                    while True:
                        file.write(bytes(size))
                except OSError:
                    pass

    def fill_while_live(self, seed):
        """A collector that has said that the disk is full, its replay, source and trace file."""
        source = self.write_log(seed, 240_000)
        collector = Collector(self, "--output-dir", self.traces)
        replay = Replay(self, source, rate=RATE)
        [path] = wait_until(self.trace_files, "no trace file")
        wait_until(lambda: routes_in(path) > 1_000, "no rows")
        self.fill()
        wait_until(collector.stderr, "the collector does not say that the disk is full")
        return collector, replay, source, path

    def test_nothing_is_lost(self):
        collector, replay, source, path = self.fill_while_live(7)
        stuck_at = path.stat().st_size

        def attempted():
            [trace] = self.status()
            return trace["attempted"]

        enough = attempted() + ROWS_WHILE_FULL
        wait_until(lambda: attempted() >= enough, "the engine does not go on")
        self.assertEqual(path.stat().st_size, stuck_at)
        self.ballast.unlink()
        self.assertEqual(replay.wait(), 0, replay.stderr())
        self.wait_drained()
        self.assertEqual(collector.stop(), 0, collector.stderr())
        self.assertRegex(collector.stderr(), r"\Amoetraced: .*No space left on device.*\n\Z")
        done = self.check(path, source)
        self.assertEqual((done.dropped, done.torn), (0, 0))

    def test_collector_stopped_while_full_goes_on_later(self):
        collector, replay, source, path = self.fill_while_live(8)
        self.assertEqual(collector.stop(), 1)
        self.ballast.unlink()
        Collector(self, "--output-dir", self.traces)
        self.assertEqual(replay.wait(), 0, replay.stderr())
        self.wait_drained()
        done = self.check(path, source)
        self.assertEqual((done.dropped, done.torn), (0, 0))

    def test_run_keeps_a_ring_that_the_disk_had_no_room_for(self):
        source = self.write_log(9, 20_000)
        self.fill()
        path = self.traces / "trace.jsonl"
        run = subprocess.Popen(
            [MOETRACE, "run", "-o", path, "--", MOETRACE, "replay", source],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(run.kill)
        errors = run.communicate(timeout=TIMEOUT_S)[1]
        self.assertEqual(run.returncode, 1, errors)
        self.assertIn("No space left on device", errors)
        [(held, command)] = re.findall(
            r"\.ring: holds (\S+) rows that are in no file, .*, then run: (.*)\n", errors
        )
        rows = source.read_bytes().count(b'{"type":"route"')
        self.assertEqual(int(held.replace(",", "")), rows)
        self.ballast.unlink()
        subprocess.run(
            command,
            shell=True,
            env=self.env,
            cwd="/",
            check=True,
            capture_output=True,
            timeout=TIMEOUT_S,
        )
        self.assertEqual(self.segment_files(), [])
        done = self.check(path, source)
        self.assertEqual((done.dropped, done.torn), (0, 0))


def in_own_mount_namespace():
    """Runs this file again in a mount namespace with a small tmpfs.

    Needs no root where users may make namespaces."""
    command = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    if subprocess.run([*command, "true"], capture_output=True).returncode != 0:
        print("skipped: a tmpfs can't be mounted here")
        return SKIPPED
    return subprocess.run(
        [*command, sys.executable, "-B", pathlib.Path(__file__).resolve(), "inside"]
    ).returncode


if __name__ == "__main__":
    if sys.argv[1:] != ["inside"]:
        sys.exit(in_own_mount_namespace())
    unittest.main(argv=sys.argv[:1], verbosity=2)
