#!/usr/bin/env python3
"""moetrace run: COMMAND gets each signal once, from any sender, and the run has its exit code.

usage: run_signals_test.py BIN_DIR    (unittest options may follow)
"""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import unittest

import cli_case
from cli_case import children, plain_log, program
from run_case import RunCase

# Prints each signal and each line of its input; "end N" ends it with that exit code.
COUNTER = """
import signal, sys
for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, \
signal.SIGUSR2):
    if signal.getsignal(number) != signal.SIG_IGN:
        signal.signal(number, lambda number, frame: print(signal.Signals(number).name, flush=True))
print("up", flush=True)
while line := sys.stdin.readline():
    if line.startswith("end"):
        sys.exit(int(line.split()[1]))
    print("got", line.strip(), flush=True)
"""


class RunSignalsTest(RunCase):
    def counter(self, *before, **options):
        """A run of the counter in a process group of its own."""
        run = self.start(
            "moetrace",
            "run",
            "--",
            *before,
            sys.executable,
            "-c",
            COUNTER,
            stdin=subprocess.PIPE,
            start_new_session=True,
            **options,
        )
        self.assertEqual(run.stdout.readline(), "up\n")
        return run

    def expect_once(self, run, number):
        """COMMAND gets the signal, and gets it once before a later signal."""
        self.assertEqual(run.stdout.readline(), number.name + "\n")
        run.send_signal(signal.SIGUSR2)
        self.assertEqual(run.stdout.readline(), "SIGUSR2\n")

    def end(self, run, code):
        out, err = run.communicate(f"end {code}\n", timeout=60)
        self.assertEqual((run.returncode, out), (code, ""), err)

    def test_a_signal_to_the_run_alone(self):
        run = self.counter()
        for number in (
            signal.SIGHUP,
            signal.SIGINT,
            signal.SIGQUIT,
            signal.SIGTERM,
            signal.SIGUSR1,
        ):
            run.send_signal(number)
            self.expect_once(run, number)
        self.end(run, 7)

    def test_a_signal_to_the_group(self):
        run = self.counter()
        for number in 5 * (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.killpg(run.pid, number)
            self.expect_once(run, number)
        self.end(run, 7)

    def test_a_signal_to_the_run_and_then_to_its_group(self):
        """Like timeout(1). The run is stopped meanwhile, so it finds both signals at once."""
        run = self.counter()
        for number in 5 * (signal.SIGINT, signal.SIGTERM):
            os.kill(run.pid, signal.SIGSTOP)
            os.kill(run.pid, number)
            os.killpg(run.pid, number)
            os.kill(run.pid, signal.SIGCONT)
            self.expect_once(run, number)
        self.end(run, 7)

    def test_under_timeout(self):
        """timeout(1) leads a group and signals its child and the group. SIGALRM ends its time."""
        for _ in range(5):
            timeout = subprocess.Popen(
                [
                    "timeout",
                    "-s",
                    "INT",
                    "1000",
                    program("moetrace"),
                    "run",
                    "--",
                    sys.executable,
                    "-c",
                    COUNTER,
                ],
                env=self.env,
                cwd=self.dir,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            self.started.append(timeout)
            self.assertEqual(timeout.stdout.readline(), "up\n")
            [run] = children(timeout.pid)
            timeout.send_signal(signal.SIGALRM)
            self.assertEqual(timeout.stdout.readline(), "SIGINT\n")
            os.kill(run, signal.SIGUSR2)
            self.assertEqual(timeout.stdout.readline(), "SIGUSR2\n")
            out, err = timeout.communicate("end 7\n", timeout=60)
            self.assertEqual((timeout.returncode, out), (124, ""), err)

    def test_a_command_in_a_group_of_its_own(self):
        """A signal to our group does not reach it."""
        run = self.counter("setsid")
        for number in (signal.SIGINT, signal.SIGTERM):
            os.killpg(run.pid, number)
            self.expect_once(run, number)
        self.end(run, 7)

    def test_a_signal_to_all_by_their_numbers(self):
        """Like a service manager: one by one to the run, its collector and COMMAND.

        The trace is complete."""
        plain_log(self.path("plain.jsonl"), passes=50)
        script = (
            "import signal, subprocess, sys\n"
            f"subprocess.run([{program('moetrace')!r}, "
            "'replay', '--num-experts', '16', 'plain.jsonl'])\n"
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
            "print('up', flush=True)\n"
            "while True: signal.pause()\n"
        )
        for order in (1, -1, 1, -1):
            run = self.start(
                "moetrace", "run", "-o", "out.jsonl", "--", sys.executable, "-c", script
            )
            while run.stdout.readline() != "up\n":
                pass
            for pid in [run.pid, *children(run.pid)][::order]:
                os.kill(pid, signal.SIGTERM)
            _, err = run.communicate(timeout=60)
            self.assertEqual(run.returncode, 0, err)
            self.assertIn("verified", err)
            self.assertEqual(os.listdir(self.rings), [])

    def test_a_signal_that_ends_command_is_no_signal_to_us(self):
        """COMMAND dies of the signal before we read ours: the trace is complete."""
        plain_log(self.path("plain.jsonl"), passes=50)
        replay = f"{program('moetrace')} replay --num-experts 16 plain.jsonl"
        for _ in range(5):
            run = self.start(
                "moetrace",
                "run",
                "-o",
                "out.jsonl",
                "--",
                "sh",
                "-c",
                f"{replay}; echo up; exec sleep 1000",
                start_new_session=True,
            )
            while run.stdout.readline() != "up\n":
                pass
            os.killpg(run.pid, signal.SIGTERM)
            _, err = run.communicate(timeout=60)
            self.assertEqual(run.returncode, 128 + signal.SIGTERM, err)
            self.assertIn("verified", err)
            self.assertNotIn("SIGTERM", err)

    def test_ignored_hangups_stay_ignored(self):
        """Under nohup, COMMAND ignores SIGHUP, and so does the run."""
        run = self.start(
            "moetrace",
            "run",
            "--",
            "sh",
            "-c",
            "echo up; read go; exit 7",
            stdin=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
        )
        self.assertEqual(run.stdout.readline(), "up\n")
        for _ in range(3):
            run.send_signal(signal.SIGHUP)
            os.killpg(run.pid, signal.SIGHUP)
        run.stdin.write("go\n")
        run.stdin.flush()
        run.send_signal(signal.SIGHUP)
        self.assertEqual(run.wait(60), 7)

    def test_a_hangup_does_not_end_the_collector(self):
        run = self.counter()
        [daemon] = self.collectors_of(run)
        os.kill(daemon, signal.SIGHUP)
        os.killpg(run.pid, signal.SIGHUP)
        self.expect_once(run, signal.SIGHUP)
        self.assertEqual(self.collectors_of(run), [daemon])
        self.assertNotEqual(
            os.getsid(daemon), os.getsid(run.pid)
        )  # so a lost terminal does not reach it, either
        self.end(run, 7)

    def test_the_watch_is_not_found_by_our_name(self):
        run = self.counter()
        watches = 0
        for pid in children(run.pid):
            with (
                open(f"/proc/{pid}/comm", encoding="ascii") as comm,
                open(f"/proc/{pid}/cmdline", "rb") as words,
            ):
                if comm.read() == "signal-watch\n":
                    watches += 1
                    self.assertNotIn(b"moetrace", words.read())
        self.assertEqual(watches, 1)
        self.end(run, 7)

    def test_children_are_counted_where_their_end_is_ignored(self):
        run = self.counter(preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
        self.end(run, 7)


class Terminal:
    """A shell with job control on its own terminal."""

    def __init__(self, case):
        self.case = case
        self.text = ""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(case.dir)
            os.execvpe(
                "bash",
                ["bash", "--norc", "--noprofile", "-i"],
                case.env | {"PS1": "", "TERM": "dumb"},
            )

    def type(self, text):
        os.write(self.fd, text.encode())

    def wait_for(self, pattern):
        """Reads until the pattern comes after the last match; returns the text up to its end."""
        deadline = time.monotonic() + 60
        while not (found := re.search(pattern, self.text)):
            self.case.assertLess(
                time.monotonic(), deadline, f"waited too long for {pattern!r} in {self.text!r}"
            )
            if select.select([self.fd], [], [], 1)[0]:
                self.text += os.read(self.fd, 4096).decode(errors="replace").replace("\r", "")
        seen, self.text = self.text[: found.end()], self.text[found.end() :]
        return seen

    def close(self):
        self.type("\x03\nexit\nexit\n")
        os.close(self.fd)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


class RunTerminalTest(RunCase):
    def setUp(self):
        super().setUp()
        with open(self.path("counter.py"), "w", encoding="utf-8") as file:
            file.write(COUNTER)
        self.terminal = Terminal(self)
        self.addCleanup(self.terminal.close)
        self.terminal.type("stty -echo; set +H; echo rea''dy\n")
        self.terminal.wait_for(r"\bready\n")

    def run_counter(self, rest=""):
        self.terminal.type(f"{program('moetrace')} run -- {sys.executable} counter.py{rest}\n")
        self.terminal.wait_for(r"\bup\n")

    def end(self, code):
        self.terminal.type(f"end {code}\n")
        seen = self.terminal.wait_for(r"made no ring.*\n")
        self.terminal.type("echo code $?\n")
        self.terminal.wait_for(rf"code {code}\n")
        return seen

    def marker(self):
        """Waits for a line that follows all earlier signals."""
        self.terminal.type("mark\n")
        return self.terminal.wait_for(r"got mark\n")

    def command_is_stopped(self):
        [run] = children(self.terminal.pid)
        for pid in children(run):
            with (
                open(f"/proc/{pid}/cmdline", "rb") as words,
                open(f"/proc/{pid}/stat", encoding="ascii") as stat,
            ):
                if b"counter.py" in words.read():
                    return stat.read().rpartition(")")[2].split()[0] == "T"
        return False

    def test_ctrl_c(self):
        self.run_counter()
        for _ in range(3):
            self.terminal.type("\x03")
            self.terminal.wait_for(r"SIGINT\n")
            self.assertNotIn("SIGINT", self.marker())
        self.assertNotIn("SIGINT", self.end(7))

    def test_ctrl_z_and_fg(self):
        self.run_counter()
        self.terminal.type("\x1a")
        self.terminal.wait_for(r"Stopped")
        self.wait_for(
            self.command_is_stopped, "COMMAND to stop"
        )  # otherwise it might take the next line
        self.terminal.type("echo in the sh''ell\n")
        self.terminal.wait_for(r"in the shell\n")
        self.terminal.type("fg\n")
        self.terminal.wait_for(r"counter\.py\n")
        self.marker()
        self.terminal.type("\x03")
        self.terminal.wait_for(r"SIGINT\n")
        self.end(7)

    def hold(self):
        """COMMAND reads from a pipe, so it leaves the terminal alone."""
        os.mkfifo(self.path("hold"))
        reader = os.open(self.path("hold"), os.O_RDONLY | os.O_NONBLOCK)
        writer = os.open(self.path("hold"), os.O_WRONLY)
        os.close(reader)
        self.addCleanup(os.close, writer)
        return " < hold"

    def test_in_the_background(self):
        self.run_counter(self.hold() + " &")
        for number in ("INT", "TERM", "USR1"):
            self.terminal.type(f"kill -{number} %1\n")
            self.terminal.wait_for(rf"SIG{number}\n")
            self.terminal.type("kill -USR2 $!\n")
            self.assertNotIn(f"SIG{number}", self.terminal.wait_for(r"SIGUSR2\n"))
        self.terminal.type("kill -KILL %1; wait %1\n")
        self.terminal.wait_for("Killed")

    def test_in_a_pipeline(self):
        """The rest of the pipeline still has the terminal."""
        self.run_counter(
            self.hold() + " | sh -c 'head -1; read line < /dev/tty; echo the reader got $line'"
        )
        self.terminal.type("word\n")
        self.terminal.wait_for("the reader got word\n")


def can_unshare():
    return (
        subprocess.run(
            ["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True
        ).returncode
        == 0
    )


@unittest.skipUnless(can_unshare(), "a pid namespace can't be made here")
class RunAsFirstProcessTest(RunCase):
    """As the entry point of a container."""

    def start_first(self, *command):
        return subprocess.Popen(
            [
                "unshare",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                program("moetrace"),
                "run",
                "--",
                *command,
            ],
            env=self.env,
            cwd=self.dir,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def test_orphans_are_reaped(self):
        run = self.start_first(
            "sh",
            "-c",
            "(sh -c 'echo $$ > orphan' &); while [ ! -s orphan ]; do sleep 0.01; done; "
            "while [ -e /proc/$(cat orphan) ]; do sleep 0.01; done; exit 5",
        )
        self.started.append(run)
        _, err = run.communicate(timeout=60)
        self.assertEqual(run.returncode, 5, err)

    def test_a_stop_reaches_command(self):
        run = self.start_first(
            "sh", "-c", "trap 'exit 42' TERM; echo up; while :; do sleep 0.02; done"
        )
        self.started.append(run)
        self.assertEqual(run.stdout.readline(), "up\n")
        [first] = children(run.pid)
        os.kill(first, signal.SIGTERM)
        _, err = run.communicate(timeout=60)
        self.assertEqual(run.returncode, 42, err)


if __name__ == "__main__":
    cli_case.main()
