"""The lines that moetraced prints, and what it tells the service manager."""

import re
import socket
import subprocess
import unittest

from harness import MOETRACED, Case, Collector, Replay, make_steps, meta_line, routes_in, wait_until


class LogLines(Case):
    def test_usage(self):
        for words, said in (
            ("foo", "unexpected argument 'foo'"),
            ("--outputdir x", "unknown option --outputdir"),
            ("--layers", "--layers: its value is missing"),
            ("--once=x", "--once takes no value"),
            ("--once=4x", "--once takes no value"),
            ("--quiet=0", "--quiet takes no value"),
            ("--session= --once", "--session: its value is missing"),
            ("--output-dir --once", "--output-dir: its value is missing before --once"),
            ("--output a --output-dir b", "--output-dir and --output exclude each other"),
        ):
            result = subprocess.run(
                [MOETRACED, *words.split()],
                env=self.env,
                cwd=self.folder,
                capture_output=True,
                text=True,
                timeout=60,
            )
            self.assertEqual(
                (result.returncode, result.stderr),
                (2, f"moetraced: {said}; see moetraced --help\n"),
            )

    def test_output_that_cannot_be_written(self):
        (self.folder / "file").write_text("in the way")
        for output in (
            ["--output-dir", self.folder / "file"],
            ["--output", self.folder / "file/trace.jsonl"],
        ):
            self.assertIn(
                f"{self.folder}/file: can't write", self.refused("--publish", "none", *output)
            )

    def test_says_where_everything_is(self):
        process = subprocess.Popen(
            [MOETRACED, "--directory", self.rings, "--output-dir", "traces"],
            env=self.env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            line = process.stderr.readline()
            for part in (
                f"session {self.session}",
                str(self.rings),
                "traces/<trace id>.jsonl",
                f"ipc://{self.folder}/moetrace/",
            ):
                self.assertIn(part, line)
        finally:
            process.terminate()
            self.assertEqual(process.communicate(timeout=60)[1], "")

    def test_says_when_a_trace_begins_and_how_it_ended(self):
        collector = subprocess.Popen(
            [MOETRACED, "--directory", self.rings, "--output-dir", "traces", "--publish", "none"],
            env=self.env,
            cwd=self.folder,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(collector.communicate)
        self.addCleanup(collector.kill)
        self.assertIn("ready", collector.stderr.readline())
        replay = Replay(self, self.write_log(11, 500))
        pid = replay.process.pid
        self.assertEqual(replay.wait(), 0, replay.stderr())
        begun = re.fullmatch(
            r"moetraced: trace (\S+) begins: "
            r'model "test/model", pid (\d+), file traces/(\S+)\.jsonl\n',
            collector.stderr.readline(),
        )
        self.assertEqual((begun[1], int(begun[2])), (begun[3], pid))
        ended = collector.stderr.readline()
        rows = routes_in(self.folder / f"traces/{begun[1]}.jsonl")
        self.assertEqual(
            ended,
            f"moetraced: trace {begun[1]} has ended: closed, {rows} delivered, 0 dropped, 0 torn\n",
        )
        # A killed producer and a collector that starts late. A line break in a name adds no line.
        replay = Replay(self)
        replay.feed(meta_line([0, 1, 2, 5], model="odd\nname"))
        replay.feed("".join(make_steps(3, 500)))
        begun = collector.stderr.readline()
        trace = begun.split()[2]
        self.assertIn('begins: model "odd\\nname", pid ', begun)
        wait_until(lambda: routes_in(self.folder / f"traces/{trace}.jsonl"), "no rows")
        collector.terminate()
        self.assertEqual(collector.communicate(timeout=60)[1], "")
        replay.kill()
        late = subprocess.run(
            [
                MOETRACED,
                "--directory",
                self.rings,
                "--output-dir",
                "traces",
                "--publish",
                "none",
                "--once",
            ],
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertRegex(
            late.stderr,
            rf"\Amoetraced: ready[^\n]+\nmoetraced: trace {trace} continues: model [^\n]+\n"
            f"moetraced: trace {trace} has ended: "
            r"producer died, \d+ delivered, 0 dropped, \d+ torn\n\Z",
        )

    def test_quiet(self):
        replay = Replay(self, self.write_log(12, 500), rate=1e9)
        self.assertEqual(replay.wait(), 0, replay.stderr())
        result = subprocess.run(
            [MOETRACED, "--directory", self.rings, "--publish", "none", "--once", "--quiet"],
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual((result.returncode, result.stdout, result.stderr), (0, "", ""))

    def test_notifies_the_service_manager(self):
        address = self.folder / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(address))
            manager.settimeout(60)
            collector = Collector(
                self, "--output-dir", self.traces, env={"NOTIFY_SOCKET": str(address)}
            )
            self.assertEqual(manager.recv(4096), b"READY=1")
            self.assertEqual(collector.stop(), 0)
            self.assertEqual(manager.recv(4096), b"STOPPING=1")


if __name__ == "__main__":
    unittest.main(verbosity=2)
