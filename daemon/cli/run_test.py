#!/usr/bin/env python3
"""moetrace run end to end, and the command line itself.

usage: run_test.py BIN_DIR    (unittest options may follow)
"""

import os
import signal
import subprocess

import cli_case
from cli_case import children, plain_log, program
from run_case import RunCase


class RunTest(RunCase):
    def test_run_keeps_the_commands_status(self):
        self.moetrace("run", "--", "sh", "-c", "exit 3", code=3)
        self.assertIn("COMMAND made no ring", self.err)
        self.moetrace("run", "--", "sh", "-c", "kill -9 $$", code=137)
        self.moetrace("run", "--", "sh", "-c", "kill -TERM $$", code=143)
        self.moetrace("run", "--", "true", code=1)
        self.moetrace("run", "--", "/nowhere/command", code=127)
        self.moetrace("run", "--", "/etc", code=126)
        self.assertEqual(os.listdir(self.rings), [])

    def test_run_says_what_its_command_line_misses(self):
        write = "; write: moetrace run [OPTIONS] -- COMMAND [ARG...]\n"
        for arguments, said in (
            (["run"], "run: -- and COMMAND are missing" + write),
            (["run", "--"], "run: COMMAND is missing after --" + write),
            (["run", "-o", "x", "--"], "run: COMMAND is missing after --" + write),
            (["run", "true"], "run: -- is missing before COMMAND, here 'true'" + write),
            (
                ["run", "sh", "-c", "true", "--plot"],
                "run: -- is missing before COMMAND, here 'sh'" + write,
            ),
            (["run", "status"], "run: -- is missing before COMMAND, here 'status'" + write),
            (["run", "x", "--", "true"], "run: 'x' before --: expected only options there" + write),
            (
                ["run", "--plto", "x", "--", "true"],
                "run: unknown option --plto; see moetrace run --help\n",
            ),
        ):
            self.moetrace(*arguments, code=2)
            self.assertEqual(self.err, "moetrace: " + said)
        self.assertIn(
            "Usage: moetrace run [OPTIONS] -- COMMAND [ARG...]\n", self.moetrace("run", "--help")
        )

    def test_run_says_where_to_look_when_there_was_no_ring(self):
        self.moetrace("run", "--", "true", code=1)
        self.assertEqual(
            self.err,
            "moetrace: run: no trace, because COMMAND made no ring; look for an error of "
            'COMMAND, or for a line that begins with "moetrace:" or "moetrace-engine:", it '
            "says why; "
            "install the moetrace package in the engine's environment; "
            "check that the model has MoE layers; "
            "add --wait before -- if COMMAND starts its engine in the "
            "background\n",
        )

    def test_run_refuses_an_output_that_cannot_be_written(self):
        with open(self.path("file"), "w", encoding="utf-8") as file:
            file.write("in the way")
        os.mkdir(self.path("folder"))
        for output, why in (
            ("file/trace.jsonl", "file is not a folder"),
            ("folder", "Is a directory"),
            ("folder/", "Is a directory"),
            ("new/deep/" + "x" * 300, "File name too long"),
            ("/proc/new/trace.jsonl", "No such file or directory"),
            ("/dev/null", "it is a device or a pipe"),
        ):
            self.moetrace("run", "-o", output, "--", "touch", "ran", code=1)
            self.assertEqual(
                self.err,
                f"moetrace: {output}: can't write the trace there: {why}; "
                "give -o a file that can be written\n",
            )
        self.moetrace("run", "--plot", "file/pictures", "--", "touch", "ran", code=1)
        self.assertEqual(
            self.err,
            "moetrace: file/pictures: can't draw pictures there: file is not a folder; "
            "give --plot a folder that can be written\n",
        )
        self.assertEqual(sorted(os.listdir(self.dir)), ["file", "folder"])
        self.assertEqual(os.listdir(self.path("folder")), [])

    def test_run_leaves_no_empty_folder_behind(self):
        os.mkdir(self.path("old"))
        for command, code in ((["true"], 1), (["/nowhere/command"], 127)):
            self.moetrace(
                "run",
                "-o",
                "old/new/deep/trace.jsonl",
                "--plot",
                "pictures",
                "--",
                *command,
                code=code,
            )
            self.assertEqual(os.listdir(self.path("old")), [])
            self.assertFalse(os.path.exists(self.path("pictures")))
        self.moetrace(
            "run", "-o", "old/new/deep/trace.jsonl", "--", "touch", "old/new/kept", code=1
        )
        self.assertEqual(os.listdir(self.path("old/new")), ["kept"])

    def test_run_passes_input_output_and_environment(self):
        done = subprocess.run(
            [program("moetrace"), "run", "--", "sh", "-c", "cat; echo $MOETRACE --help"],
            env=self.env,
            cwd=self.dir,
            input="in\n",
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.stdout, "in\n1 --help\n")

    def test_run_whose_collector_does_not_end(self):
        """After COMMAND's end the first signal asks the collector to end, the second kills it.

        No process stays."""
        run = self.start(
            "moetrace", "run", "--", "sh", "-c", "echo up; read go", stdin=subprocess.PIPE
        )
        self.assertEqual(run.stdout.readline(), "up\n")
        [daemon] = self.collectors_of(run)
        os.kill(daemon, signal.SIGSTOP)
        try:
            self.assertEqual(len(os.listdir(self.rings)), 1)
            run.stdin.write("go\n")
            run.stdin.flush()
            self.wait_for(lambda: children(run.pid) == [daemon], "the command's end")
            run.send_signal(signal.SIGINT)
            self.assertEqual(
                run.stderr.readline(),
                "moetrace: run: got SIGINT: ending the trace as it is; "
                "send it again to kill the collector\n",
            )
            run.send_signal(signal.SIGINT)
            _, err = run.communicate(timeout=60)
        finally:
            # After a failure the stopped collector would outlive the test.
            if run.poll() is None:
                os.kill(daemon, signal.SIGCONT)
        self.assertEqual(run.returncode, 1, err)
        self.assertIn("moetraced: ended with signal 9", err)
        self.assertEqual(os.listdir(self.rings), [])

    def test_run_whose_endpoint_cannot_be_used_starts_nothing(self):
        self.moetrace("run", "--publish", "nonsense", "--", "touch", "ran", code=2)
        self.assertRegex(
            self.err,
            r"\Amoetrace: run: publish nonsense: it lacks ipc:// or tcp:// at its beginning; "
            r"[^\n]*\n\Z",
        )
        endpoint = f"ipc://{self.path('no folder')}/x.pub"
        self.moetrace("run", "--publish", endpoint, "--", "touch", "ran", code=1)
        self.assertRegex(
            self.err,
            rf"\Amoetraced: publish {endpoint}: .*\nmoetrace: run: COMMAND was not started: "
            r"moetraced: it did not start; correct --publish, or leave it out\n\Z",
        )
        self.assertFalse(os.path.exists(self.path("ran")))
        self.assertEqual(os.listdir(self.rings), [])

    def test_run_reads_its_output_from_the_environment(self):
        plain_log(self.path("plain.jsonl"))
        self.moetrace(
            "run",
            "--",
            program("moetrace"),
            "replay",
            "--num-experts",
            "16",
            "plain.jsonl",
            env={"VLLM_LOG_MOE": "sub/named.jsonl"},
        )
        self.moetrace("verify", "sub/named.jsonl")

    def test_command_line(self):
        self.moetrace(code=2)
        self.assertIn("verify", self.err)
        self.assertIn("replay", self.moetrace("--help"))
        self.assertRegex(self.moetrace("--version"), r"^moetrace \d+\.\d+\.\d+\n$")
        commands = "run, status, tail, top, start, stop, set, verify, convert, replay, clean"
        for words, said in (
            ("dance", f"unknown command 'dance': expected one of {commands}; see moetrace --help"),
            ("--jsn", "unknown option --jsn; see moetrace --help"),
            ("top --jsn", "top: unknown option --jsn; see moetrace top --help"),
            ("top foo", "top: unexpected argument 'foo'; see moetrace top --help"),
            ("verify", "verify: FILE is missing; see moetrace verify --help"),
            ("replay --rat 5", "replay: unknown option --rat; see moetrace replay --help"),
            (
                "replay --rate -1 x",
                "replay: --rate: '-1': expected a number > 0; see moetrace replay --help",
            ),
            (
                "replay --rate fast x",
                "replay: --rate: 'fast': expected a number > 0; see moetrace replay --help",
            ),
            (
                "replay --num-experts 0 x",
                "replay: --num-experts: '0': expected an integer from 1 to 65535; "
                "see moetrace replay --help",
            ),
            (
                "tail --topic x",
                "tail: --topic: 'x': expected one of route, meta, stats; see moetrace tail --help",
            ),
            (
                "tail --count 1.5",
                "tail: --count: '1.5': expected an integer >= 1; see moetrace tail --help",
            ),
            (
                "set --sample x",
                "set: --sample: 'x': expected an integer from 0 to 4294967295; "
                "see moetrace set --help",
            ),
            ("set --sample", "set: --sample: its value is missing; see moetrace set --help"),
            ("status --json=x", "status: --json takes no value; see moetrace status --help"),
            ("status --json=4x", "status: --json takes no value; see moetrace status --help"),
            ("top --trace= x", "top: --trace: its value is missing; see moetrace top --help"),
            ("run --plot= -- true", "run: --plot: its value is missing; see moetrace run --help"),
            (
                "tail --endpoint --json",
                "tail: --endpoint: its value is missing before --json; see moetrace tail --help",
            ),
            (
                "tail --session a/b",
                "session 'a/b': not a session name; use 1 to 64 letters, digits, '-' and '_'",
            ),
            (
                "status --session a --session b",
                "status: --session is given more than once; see moetrace status --help",
            ),
        ):
            self.moetrace(*words.split(), code=2)
            self.assertEqual(self.err, f"moetrace: {said}\n")
        self.moetrace("verify", "", code=2)
        self.assertEqual(
            self.err, "moetrace: verify: FILE: its value is missing; see moetrace verify --help\n"
        )
        self.moetrace("da\nnce", code=2)
        self.one_line_error()


if __name__ == "__main__":
    cli_case.main()
