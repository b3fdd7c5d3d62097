"""SIGHUP: what the collector reloads, and what it says of it."""

import signal
import subprocess
import unittest

from config_case import ConfigCase, layers_of, lines_of
from harness import MOETRACED, Collector, Replay, make_steps, meta_line, routes_in, wait_until


class Sighup(ConfigCase):
    """`moetraced` without --ready-fd, so that it says what a user sees."""

    def start(self, *arguments):
        log = self.folder / "moetraced.log"
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [MOETRACED, "--config", str(self.config), "--publish", "none", *arguments],
                env=self.env,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stderr=errors,
            )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.log = log
        self.process = process
        self.wait_said("ready: ")

    def wait_said(self, text):
        """The rest of the first line of the log that has the text."""
        return wait_until(
            lambda: next(
                (
                    line.partition(text)[2] or " "
                    for line in self.log.read_text().splitlines()
                    if text in line
                ),
                None,
            ),
            f"'{text}' is not said",
        )

    def hang_up(self):
        self.process.send_signal(signal.SIGHUP)

    def start_trace(self):
        self.steps = make_steps(7, 1_000_000)
        replay = Replay(self)
        replay.feed(meta_line([0, 1, 2, 5]))
        return replay

    def feed_until(self, replay, holds):
        def fed():
            replay.feed(next(self.steps))
            return holds()

        wait_until(fed, "the rows do not arrive")

    def test_layers_of_a_live_trace(self):
        self.write(output=str(self.traces / "t.jsonl"), layers="0,1")
        self.start()
        replay = self.start_trace()
        first, second = self.traces / "t.jsonl", self.traces / "t.2.jsonl"
        self.feed_until(replay, lambda: routes_in(first) > 100)
        self.write(output=str(self.traces / "t.jsonl"), layers="2,5")
        self.hang_up()
        self.wait_said('layers is now "2,5", not "0-1"')
        self.feed_until(replay, lambda: routes_in(second) > 100)
        self.assertEqual(replay.wait(), 0, replay.stderr())
        self.wait_drained()
        self.assertEqual(layers_of(second), {2, 5})
        # What was read before the signal, and perhaps rows of the step in which it came.
        self.assertLessEqual({0, 1}, layers_of(first))
        for paths in ([first], [second], [first, second]):
            self.verify(*paths)
        end = lines_of(second)[-1]
        self.assertEqual(
            end["attempted"], sum(end[key] for key in ("delivered", "filtered", "dropped", "torn"))
        )
        self.assertGreater(end["filtered"], 0)

    def test_rows_of_the_next_part(self):
        output = str(self.traces / "t.jsonl")
        self.write(output=output)
        self.start()
        replay = self.start_trace()
        self.feed_until(replay, lambda: routes_in(self.traces / "t.jsonl") > 100)
        self.write(output=output, rows="arrow")
        self.hang_up()
        self.wait_said('rows is now "arrow", not "json"')
        self.feed_until(replay, (self.traces / "t.2.arrows").exists)
        self.assertEqual(replay.wait(), 0, replay.stderr())
        self.wait_drained()
        self.assertFalse((self.traces / "t.arrows").exists())
        self.assertGreater((self.traces / "t.2.arrows").stat().st_size, 1_000)
        self.assertEqual(routes_in(self.traces / "t.2.jsonl"), 0)

    def test_output_of_new_traces(self):
        old, new = self.traces / "old", self.traces / "new/deep"
        self.write(output_dir=str(old))
        self.start()
        replay = self.start_trace()
        self.feed_until(replay, lambda: any(map(routes_in, old.glob("*"))))
        [path] = old.glob("*")
        self.write(output_dir=str(new), once=True)
        self.hang_up()
        line = self.wait_said("reloaded ")
        self.assertEqual(
            line,
            f'{self.config}: output_dir is now "{new}", not "{old}", for new traces; '
            "once stays false until a restart, not true",
        )
        # The live trace stays where it is.
        self.feed_until(replay, lambda: len(list(old.glob("*"))) == 2)
        other = Replay(self, self.write_log(2, 500), rate=1e9)
        self.assertEqual(other.wait(), 0, other.stderr())
        self.assertEqual(replay.wait(), 0, replay.stderr())
        self.wait_drained()
        self.assertEqual(len(list(new.iterdir())), 1)
        self.assertEqual({file.name[:36] for file in old.iterdir()}, {path.stem})
        self.assertIsNone(self.process.poll())

    def test_a_bad_file_changes_nothing(self):
        output = str(self.traces / "t.jsonl")
        self.write(output=output, layers="0")
        self.start()
        replay = self.start_trace()
        self.feed_until(replay, lambda: routes_in(self.traces / "t.jsonl") > 100)
        (self.folder / "file").write_text("in the way")
        for part, (text, said) in enumerate(
            (
                ('{"layers": "1", ', "line 1, column "),
                ('{"layers": "1", "outptu": "x"}', 'unknown key "outptu"'),
                ('{"layers": "1", "output": "file/x"}', "file: can't write traces there"),
            ),
            2,
        ):
            self.config.write_text(text)
            before = self.log.read_text()
            self.hang_up()
            self.assertIn("; all settings stay as they were", self.wait_said(said))
            # It begins the next part all the same, for log rotation.
            path = self.traces / f"t.{part}.jsonl"
            self.feed_until(replay, lambda path=path: routes_in(path) > 10)
            self.assertEqual(layers_of(path), {0})
            after = self.log.read_text()[len(before) :]
            self.assertEqual(after.count("\n"), 2, after)
        self.config.unlink()
        self.hang_up()
        self.wait_said(f"{self.config}: can't read the configuration")

    def test_what_has_not_changed_is_not_said(self):
        """And --quiet, which --ready-fd implies, leaves only what does not happen."""
        self.write(layers="0")
        collector = Collector(self, "--config", self.config)
        collector.process.send_signal(signal.SIGHUP)
        self.write(layers="1")
        collector.process.send_signal(signal.SIGHUP)
        self.write(once=True, layers="1")
        collector.process.send_signal(signal.SIGHUP)
        said = "once stays false until a restart, not true"
        wait_until(lambda: said in collector.stderr(), "it says nothing")
        for line in collector.stderr().splitlines():
            self.assertIn(said, line)


if __name__ == "__main__":
    unittest.main(verbosity=2)
