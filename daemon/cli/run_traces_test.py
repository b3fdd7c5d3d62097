#!/usr/bin/env python3
"""moetrace run: it reports its own traces alone, and loses no row when its collector fails.

usage: run_traces_test.py BIN_DIR    (unittest options may follow)
"""

import json
import os
import re
import resource
import shutil
import signal
import subprocess

import cli_case
from cli_case import children, lines_of, plain_log, program
from run_case import RunCase


class RunTracesTest(RunCase):
    def test_run_reports_and_draws_its_own_traces_alone(self):
        """Two runs with the same -o overlap; the one that began first ends last."""
        rows = {"few": 0, "many": 0}
        for name, passes in (("few", 2), ("many", 9)):
            plain_log(self.path(f"{name}.jsonl"), passes=passes)
            rows[name] = len(lines_of(self.path(f"{name}.jsonl"), "route"))
        runs = {
            name: self.gated_replay(
                f"{name}.jsonl", "-o", "same.jsonl", "--plot", f"{name}-pictures"
            )
            for name in rows
        }
        bystander = self.start(
            "moetrace",
            "run",
            "-o",
            "same.jsonl",
            "--",
            "sh",
            "-c",
            "echo up; read go",
            stdin=subprocess.PIPE,
        )
        self.assertEqual(bystander.stdout.readline(), "up\n")
        for name, file in (("many", "same.jsonl"), ("few", "same.2.jsonl")):
            _, err = runs[name].communicate("go\n", timeout=60)
            self.assertEqual(runs[name].returncode, 0, err)
            self.assertEqual(self.reported(err), {file: rows[name]}, err)
            with open(
                self.path(f"{name}-pictures/expert_metrics.json"), encoding="utf-8"
            ) as metrics:
                self.assertEqual(json.load(metrics)["rows"], rows[name])
        _, err = bystander.communicate("go\n", timeout=60)
        self.assertIn("run: no trace", err)

    def test_run_survives_its_collectors_death(self):
        """A collector killed while COMMAND runs is restarted at once, and the trace is complete."""
        plain_log(self.path("plain.jsonl"), passes=1000)
        run = self.gated_replay("plain.jsonl", "-o", "out.jsonl")
        [daemon] = self.collectors_of(run)
        os.kill(daemon, signal.SIGKILL)
        self.wait_for(lambda: self.collectors_of(run) not in ([], [daemon]), "the next collector")
        out, err = run.communicate("go\n", timeout=60)
        self.assertEqual(run.returncode, 0, err)
        self.assertIn("moetraced: ended too early, with signal 9; started again\n", err)
        self.assertIn("0 dropped", out)  # COMMAND ran to its end
        self.assertEqual(os.listdir(self.rings), [])
        self.moetrace("verify", "out.jsonl")

    def test_run_reports_a_trace_whose_collector_was_killed_half_way(self):
        """A restarted collector names the file again; the run counts it once."""
        plain_log(self.path("plain.jsonl"), passes=1000)
        rows = len(lines_of(self.path("plain.jsonl"), "route"))
        script = f"{program('moetrace')} replay --rate 20000 --num-experts 16 plain.jsonl"
        run = self.start("moetrace", "run", "-o", "out.jsonl", "--", "sh", "-c", script)
        self.wait_for(
            lambda: (
                os.path.exists(self.path("out.jsonl"))
                and os.path.getsize(self.path("out.jsonl")) > 10_000
            ),
            "rows",
        )
        os.kill(self.collectors_of(run)[0], signal.SIGKILL)
        _, err = run.communicate(timeout=60)
        self.assertEqual(run.returncode, 0, err)
        self.assertEqual(self.reported(err), {"out.jsonl": rows}, err)

    def drain_with(self, command):
        """Pastes the command of an error line into a shell."""
        done = subprocess.run(
            command, shell=True, env=self.env, cwd="/", capture_output=True, text=True, timeout=60
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(os.listdir(self.rings), [])

    def assert_ring_is_kept(self, error_text, rows):
        """A kept ring has one line; its command completes the trace."""
        [(path, held, command)] = re.findall(
            r"^moetrace: (\S+\.ring): "
            r"holds (\S+) rows that are in no file, because the collector failed; "
            r"fix the cause above, then run: (.*)$",
            error_text,
            re.MULTILINE,
        )
        self.assertTrue(os.path.exists(path))
        self.assertNotIn("verified", error_text)
        trace = self.path("odd name.jsonl")
        written = 0
        if os.path.exists(trace):
            with open(trace, "rb") as file:
                written = file.read().count(b'\n{"type":"route"')
        # The file may have a part of the last row, which is written again.
        self.assertGreater(int(held.replace(",", "")), 0)
        self.assertGreaterEqual(written + int(held.replace(",", "")), rows)
        self.drain_with(command)
        self.moetrace("verify", trace)
        self.assertEqual(len(lines_of(trace, "route")), rows)

    def test_run_keeps_a_ring_whose_collector_never_started(self):
        plain_log(self.path("plain.jsonl"), passes=20)
        rows = len(lines_of(self.path("plain.jsonl"), "route"))
        # Another program of that name next to moetrace.
        os.mkdir(self.path("bin"))
        shutil.copy(program("moetrace"), self.path("bin/moetrace"))
        with open(self.path("bin/moetraced"), "w", encoding="utf-8") as file:
            file.write("#!/bin/sh\nexit 1\n")
        os.chmod(self.path("bin/moetraced"), 0o755)
        done = subprocess.run(
            [
                self.path("bin/moetrace"),
                "run",
                "-o",
                "odd name.jsonl",
                "--",
                program("moetrace"),
                "replay",
                "--num-experts",
                "16",
                "plain.jsonl",
            ],
            env=self.env,
            cwd=self.dir,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.returncode, 1, done.stderr)
        os.unlink(self.path("bin/moetraced"))
        shutil.copy(program("moetraced"), self.path("bin/moetraced"))
        self.assert_ring_is_kept(done.stderr, rows)

    def test_run_keeps_a_ring_that_does_not_fit_the_file_size_limit(self):
        plain_log(self.path("plain.jsonl"), passes=3500)
        rows = len(lines_of(self.path("plain.jsonl"), "route"))
        limit = 3 << 20  # the ring fits, the trace does not
        run = self.start(
            "moetrace",
            "run",
            "-o",
            "odd name.jsonl",
            "--",
            program("moetrace"),
            "replay",
            "--num-experts",
            "16",
            "plain.jsonl",
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )
        self.assertEqual(
            run.stderr.readline(),
            "moetraced: odd name.jsonl: can't write: File too large; raise the file size limit "
            "(ulimit -f); the rings hold the rows meanwhile\n",
        )
        self.wait_for(lambda: children(run.pid) == self.collectors_of(run), "the command's end")
        run.send_signal(signal.SIGINT)  # otherwise it waits 10 s for room
        _, err = run.communicate(timeout=60)
        self.assertEqual(run.returncode, 1, err)
        self.assert_ring_is_kept(err, rows)

    def test_a_ring_above_the_file_size_limit_is_one_line(self):
        plain_log(self.path("plain.jsonl"))
        limit = 1 << 20
        done = subprocess.run(
            [program("moetrace"), "replay", "--num-experts", "16", "plain.jsonl"],
            env=self.env,
            cwd=self.dir,
            capture_output=True,
            text=True,
            timeout=60,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(
            done.stderr,
            r"\Amoetrace: .*: no room for its 3 MiB: File too large; "
            "set MOETRACE_RING_MB lower or raise the file "
            r"size limit \(ulimit -f\)\n\Z",
        )
        self.assertEqual(os.listdir(self.rings), [])

    def test_verify_names_the_command_that_finishes_a_trace(self):
        plain_log(self.path("plain.jsonl"))
        for to in (["--output", "a b.jsonl"], ["--output-dir", "."]):
            collector = self.start("moetraced", "--session", "left", "--publish", "none", *to)
            self.assertIn("ready", collector.stderr.readline())
            feed = self.path("feed")
            os.mkfifo(feed)
            self.env["MOETRACE_SESSION"] = "left"
            replay = self.start("moetrace", "replay", "--num-experts", "16", feed)
            with (
                open(feed, "w", encoding="utf-8") as pipe,
                open(self.path("plain.jsonl"), encoding="utf-8") as log,
            ):
                pipe.write(log.read())
                pipe.flush()
                begun = collector.stderr.readline()
                file = begun[begun.index(", file ") + 7 :].strip()
                self.wait_for(lambda file=file: os.path.getsize(self.path(file)), "the first lines")
                self.moetrace("verify", file, code=1)
                self.assertIn("a collector writes it; wait until the trace has ended\n", self.err)
                collector.kill()
                collector.wait()
            replay.wait()
            self.moetrace("verify", file, code=1)
            self.assertIn("no end line", self.err)
            self.drain_with(self.err[self.err.index(" run: ") + 6 :])
            self.moetrace("verify", file)
            os.unlink(feed)

    def background(self, *options):
        """A run whose COMMAND ends at once and leaves a replay that reads the returned pipe."""
        feed = self.path("feed")
        os.mkfifo(feed)
        run = self.start(
            "moetrace",
            "run",
            "-o",
            "out.jsonl",
            *options,
            "--",
            "sh",
            "-c",
            f"{program('moetrace')} replay --num-experts 16 feed >/dev/null 2>&1 & exit 0",
        )
        return run, feed

    def test_run_waits_for_an_engine_in_the_background(self):
        plain_log(self.path("plain.jsonl"))
        run, feed = self.background("--wait")
        self.assertRegex(
            run.stderr.readline(),
            r"COMMAND has ended; waiting for its engine in the background \(session run-\w+\); "
            "Ctrl-C stops the wait",
        )
        with (
            open(feed, "w", encoding="utf-8") as pipe,
            open(self.path("plain.jsonl"), encoding="utf-8") as log,
        ):
            pipe.write(log.read())
            pipe.flush()
            self.wait_for(lambda: os.path.exists(self.path("out.jsonl")), "the trace")
            self.assertIsNone(run.poll())
        _, err = run.communicate(timeout=60)
        self.assertEqual(run.returncode, 0, err)
        self.assertIn("verified", err)
        self.assertEqual(os.listdir(self.rings), [])

    def test_waiting_for_an_engine_ends_with_a_signal(self):
        run, feed = self.background("--wait")
        run.stderr.readline()
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=60)
        self.assertEqual(run.returncode, 1, err)
        self.assertIn("stopped waiting for an engine", err)
        self.assertIn("COMMAND made no ring", err)
        with open(feed, "w", encoding="utf-8"):  # the engine ends
            pass

    def test_run_names_the_command_that_collects_from_an_engine_that_goes_on(self):
        plain_log(self.path("plain.jsonl"))
        run, feed = self.background("--wait")
        run.stderr.readline()
        with (
            open(feed, "w", encoding="utf-8") as pipe,
            open(self.path("plain.jsonl"), encoding="utf-8") as log,
        ):
            text = log.read()
            pipe.write(text)
            pipe.flush()
            self.wait_for(lambda: os.path.exists(self.path("out.jsonl")), "the trace")
            run.send_signal(signal.SIGINT)
            self.assertIn("stopped waiting for an engine", run.stderr.readline())
            run.send_signal(signal.SIGINT)
            _, err = run.communicate(timeout=60)
            self.assertEqual(run.returncode, 1, err)
            command = re.search(
                r"still runs, and its trace is not complete; collect the rest with: (.*)\n", err
            ).group(1)
        self.drain_with(command)
        self.moetrace("verify", "out.jsonl")


if __name__ == "__main__":
    cli_case.main()
