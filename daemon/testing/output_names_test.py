"""Names of output by template."""

import datetime
import os
import pathlib
import shutil
import signal
import subprocess
import unittest

from config_case import ConfigCase, lines_of
from harness import (
    MOETRACE,
    MOETRACED,
    Collector,
    Replay,
    make_steps,
    meta_line,
    routes_in,
    wait_until,
)


class Templates(ConfigCase):
    """The model's name is the engine's to choose: it never leads out of the folder."""

    def test_names(self):
        template = self.traces / "{date}/{host}/{model}-{rank}.jsonl"
        collector = Collector(self, "--output", template)
        for model in ("a/../../b", "a/../../b", "c"):
            log = self.folder / "log.jsonl"
            log.write_text(meta_line([0, 1, 2, 5], model) + "".join(make_steps(1, 200)))
            replay = Replay(self, log, rate=1e9)
            self.assertEqual(replay.wait(), 0, replay.stderr())
            self.wait_drained()
        [day] = self.traces.iterdir()
        created = {
            datetime.datetime.fromtimestamp(
                lines_of(path)[0]["created_at"], datetime.timezone.utc
            ).date()
            for path in day.glob("*/*.jsonl")
        }
        self.assertIn(datetime.date.fromisoformat(day.name), created)
        self.assertEqual(
            sorted(path.name for path in day.glob("*/*")),
            ["a_.._.._b-0.2.jsonl", "a_.._.._b-0.jsonl", "c-0.jsonl"],
        )
        self.assertEqual((collector.stop(), collector.stderr()), (0, ""))

    def test_a_restart_finds_the_file(self):
        """Killed and restarted, and after SIGHUP: one trace, its parts side by side."""
        template = self.traces / "{model}/{date}/{trace}.log"
        replay = Replay(self)
        replay.feed(meta_line([0, 1, 2, 5], "x/y"))
        steps = make_steps(4, 1_000_000)

        def rows():
            return sum(map(routes_in, self.traces.glob("*/*/*")))

        for turn in range(4):
            before = rows()
            collector = Collector(self, "--output", template)

            def grown(least=before + 200):
                replay.feed(next(steps))
                return rows() > least

            wait_until(grown, "no rows")
            if turn == 1:
                collector.process.send_signal(signal.SIGHUP)
                wait_until(
                    lambda: any(path.stat().st_size for path in self.traces.glob("*/*/*.2.log")),
                    "no second part",
                )
            collector.kill()
        self.assertEqual(replay.wait(), 0, replay.stderr())
        Collector(self, "--output", template)
        self.wait_drained()
        paths = sorted(self.traces.glob("x_y/*/*"))
        self.assertEqual([path.suffixes for path in paths], [[".2", ".log"], [".log"]])
        self.verify(*paths)

    def test_a_folder_that_cannot_be_made(self):
        """The rows wait in the ring until it can."""
        (self.traces / "test_model").write_text("in the way")
        collector = Collector(self, "--output-dir", self.traces / "{model}")
        replay = Replay(self, self.write_log(6, 500), rate=1e9)
        self.assertEqual(replay.wait(), 0, replay.stderr())
        said = f"{self.traces}/test_model: can't list the traces there: Not a directory"
        wait_until(lambda: said in collector.stderr(), "it says nothing")
        (self.traces / "test_model").unlink()
        self.wait_drained()
        [path] = (self.traces / "test_model").iterdir()
        self.check(path)
        self.assertEqual(collector.stderr().count("\n"), 1, collector.stderr())

    def test_a_folder_that_is_removed_between_parts(self):
        collector = Collector(self, "--output", self.traces / "{model}/t.jsonl")
        replay, folder = Replay(self), self.traces / "test_model"
        replay.feed(meta_line([0, 1, 2, 5]))
        for step in make_steps(5, 1_000):
            replay.feed(step)
        wait_until(lambda: routes_in(folder / "t.jsonl") > 100, "no rows")
        folder.rename(self.traces / "archive")
        collector.process.send_signal(signal.SIGHUP)
        wait_until((folder / "t.jsonl").exists, "no next part")
        self.assertEqual(replay.wait(), 0, replay.stderr())
        self.wait_drained()
        paths = [self.traces / "archive/t.jsonl", folder / "t.jsonl"]
        self.verify(*paths)

    def test_run(self):
        source = self.write_log(3, 500)
        result = subprocess.run(
            [MOETRACE, "run", "-o", "{model}/{{x}}-{rank}.jsonl", "--publish", "none", "--"]
            + [MOETRACE, "replay", "--rate", "1e9", source],
            env=self.env,
            cwd=self.traces,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("moetrace: test_model/{x}-0.jsonl: ", result.stderr)
        self.check(self.traces / "test_model/{x}-0.jsonl", source)
        result = subprocess.run(
            [MOETRACE, "run", "-o", "{modle}.jsonl", "--", "touch", "ran"],
            env=self.env,
            cwd=self.traces,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(
            (result.returncode, result.stderr),
            (
                2,
                "moetrace: run: invalid value '{modle}.jsonl' for -o: unknown placeholder "
                "{modle}; did you mean {model}?\n",
            ),
        )
        self.assertFalse((self.traces / "ran").exists())

    def test_the_command_that_verify_names_finishes_the_file(self):
        """Of each template: the command finds the file, and completes it."""
        for template in ("{model}/{{x}}-{rank}.jsonl", "{trace}.x.jsonl", "{model}/{trace}.jsonl"):
            collector = Collector(self, "--output", self.traces / template)
            replay = Replay(self)
            replay.feed(meta_line([0, 1, 2, 5]))
            replay.feed("".join(make_steps(3, 500)))
            wait_until(
                lambda: any(routes_in(path) for path in self.traces.rglob("*.jsonl")), "no rows"
            )
            collector.kill()
            self.assertEqual(replay.wait(), 0, replay.stderr())
            [path] = self.traces.rglob("*.jsonl")
            done = subprocess.run(
                [MOETRACE, "verify", path], env=self.env, capture_output=True, text=True
            )
            self.assertEqual(done.returncode, 1)
            command = done.stderr.partition("run: ")[2]
            ran = subprocess.run(
                ["sh", "-c", command],
                env={
                    **self.env,
                    "PATH": f"{pathlib.Path(MOETRACED).parent}:{os.environ['PATH']}",
                },
                capture_output=True,
                text=True,
                timeout=60,
            )
            self.assertEqual(ran.returncode, 0, command + ran.stderr)
            self.assertEqual(list(self.traces.rglob("*.jsonl")), [path])
            self.check(path)
            shutil.rmtree(self.traces)
            self.traces.mkdir()


if __name__ == "__main__":
    unittest.main(verbosity=2)
