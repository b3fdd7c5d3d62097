#!/usr/bin/env python3
"""`moetrace convert`: both forms of a trace, plain logs, what would be lost, and interruptions.

usage: convert_test.py DIRECTORY_OF_THE_PROGRAMS
"""

import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys

import cli_case
from cli_case import VLLM_LOG, CliTest, float32, lines_of, plain_log, program, rows_of

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "testing"))
import arrow_rows  # noqa: E402
from made_trace import MadeTrace, parsed  # noqa: E402

LIMIT = 96 << 20


def values(text):
    """The lines, with weights as the bytes of their float32."""
    lines = parsed(text)
    for line in lines:
        if line["type"] == "route":
            line["topk_weights"] = [float32(weight) for weight in line["topk_weights"]]
    return lines


def merged(path):
    """The trace of two files as an independent reader finds it."""
    return values("".join(line + "\n" for line in arrow_rows.merged(pathlib.Path(path))))


class Convert(CliTest):
    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8", newline="") as file:
            file.write(text)

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def names(self):
        return sorted(os.listdir(self.dir))

    def assert_same(self, found, expected):
        """As assertEqual, without its comparison of long texts, which takes minutes."""
        if found != expected:
            pairs = zip(found.splitlines(), expected.splitlines())
            self.fail(
                next((f"{a!r}, expected {b!r}" for a, b in pairs if a != b), "another length")
            )

    def round_trip(self, text, *options):
        """JSON Lines to Arrow and back: the same bytes; the pair is good for others."""
        self.write("one.jsonl", text)
        self.assertEqual(self.moetrace("convert", "one.jsonl", "-o", "two.arrows", *options), "")
        self.assertEqual(self.err, "")
        self.assertTrue(merged(self.path("two.jsonl")) == values(text))
        for given in ("two.arrows", "two.jsonl"):
            self.moetrace("convert", given, "-o", "back.jsonl", "--force")
            self.assertEqual(self.err, "")
            self.assert_same(self.read("back.jsonl").decode(), text)
        for name in ("one.jsonl", "two.jsonl", "two.arrows", "back.jsonl"):
            os.remove(self.path(name))

    # ---- the same bytes ----

    def test_traces_of_every_line(self):
        for seed in range(5):
            for differ in (False, True):
                with self.subTest(seed=seed, differ=differ):
                    self.round_trip(MadeTrace(seed, differ=differ).run(20).end().text())

    def test_made_traces_are_good(self):
        """What the other tests stand on."""
        for name, made in self.kinds():
            with self.subTest(name):
                self.write("one.jsonl", made.run(20).end().text())
                self.moetrace("verify", "one.jsonl")
                self.moetrace("convert", "one.jsonl", "-o", "two.arrows", "--force")
                one = self.moetrace("verify", "one.jsonl").split(":", 1)[1]
                self.assertEqual(self.moetrace("verify", "two.arrows").split(":", 1)[1], one)

    def kinds(self):
        yield "whole", MadeTrace(1)
        yield "part", MadeTrace(2, part=3)
        yield "base", MadeTrace(3, base=True)
        yield "wide", MadeTrace(4, first=1 << 33)

    def test_parts_and_traces_without_an_end(self):
        for name, made in self.kinds():
            with self.subTest(name):
                self.round_trip(made.run(30).text())

    def test_every_compression(self):
        text = MadeTrace(5).run(100).end().text()
        for word in ("fast", "small", "lz4", "none"):
            with self.subTest(word):
                self.round_trip(text, "--compress", word)

    def test_cut_after_any_line(self):
        lines = MadeTrace(6).run(6).end().lines
        for count in range(1, len(lines), 4):
            with self.subTest(count):
                self.round_trip("".join(line + "\n" for line in lines[:count]))

    def test_many_batches(self):
        self.round_trip(MadeTrace(7, differ=False).run(5000).end().text())

    def test_wide_numbers_come_late(self):
        made = MadeTrace(8)
        made.run(20)
        made.step_number = (1 << 32) + 5
        text = made.run(20).end().text()
        self.round_trip(text)
        self.write("one.jsonl", text)
        self.moetrace("convert", "one.jsonl", "-o", "two.arrows")
        with open(self.path("two.jsonl"), encoding="utf-8") as file:
            self.assertEqual(json.loads(file.readline())["rows"]["wide"], True)
        with open(self.path("one.jsonl"), "rb") as file:
            done = self.convert_from(file, "-", "-o", "piped.arrows")
        self.assertEqual(done.returncode, 1)
        self.assertIn("a number has more than 32 bits; give the file by its name", done.stderr)

    def convert_from(self, stdin, *arguments, **how):
        return subprocess.run(
            [program("moetrace"), "convert", *arguments],
            stdin=stdin,
            cwd=self.dir,
            capture_output=True,
            text=True,
            timeout=120,
            **how,
        )

    def test_the_collectors_own_pair(self):
        """A collector's files, with rows as Arrow and with lines, of one log."""
        plain_log(self.path("log.jsonl"), passes=300)
        self.moetrace(
            *("run", "-o", "live.jsonl", "--"),
            *(program("moetrace"), "replay", "--num-experts", "16", "log.jsonl"),
            env={"MOETRACE_ROWS": "arrow"},
        )
        self.moetrace("convert", "live.arrows", "-o", "one.jsonl")
        self.moetrace("verify", "one.jsonl")
        self.assertTrue(values(self.read("one.jsonl").decode()) == merged(self.path("live.jsonl")))
        self.assertTrue(rows_of(self.path("one.jsonl")) == rows_of(self.path("log.jsonl")))
        # Every line but those that say how the rows were written is where the collector puts it.
        self.moetrace("convert", "one.jsonl", "-o", "again.arrows")
        kept = [line for line in parsed(self.read("live.jsonl").decode()) if line["type"] != "rows"]
        again = [
            line for line in parsed(self.read("again.jsonl").decode()) if line["type"] != "rows"
        ]
        self.assertTrue(again[1:] == kept[1:])

    def test_compressed_input_and_pipes(self):
        text = MadeTrace(9).run(20).end().text()
        self.write("one.jsonl", text)
        subprocess.run(["gzip", "-k", "one.jsonl"], cwd=self.dir, check=True)
        self.moetrace("convert", "one.jsonl.gz", "-o", "a.arrows")
        with open(self.path("one.jsonl"), "rb") as file:
            self.convert_from(file, "-", "-o", "b.arrows")
        self.assertEqual(self.read("a.arrows"), self.read("b.arrows"))
        self.assertEqual(self.moetrace("convert", "b.jsonl", "-o", "-"), text)
        self.assertEqual(self.moetrace("convert", "one.jsonl.gz", "-o", "-"), text)

    def test_arrow_to_arrow(self):
        self.write("one.jsonl", MadeTrace(10, differ=False).run(200).end().text())
        self.moetrace("convert", "one.jsonl", "-o", "raw.arrows", "--compress", "none")
        self.moetrace("convert", "raw.arrows", "-o", "small.arrows", "--compress", "small")
        self.assertLess(len(self.read("small.arrows")), len(self.read("raw.arrows")) * 0.7)
        self.assert_same(
            self.moetrace("convert", "small.arrows", "-o", "-"), self.read("one.jsonl").decode()
        )

    # ---- plain logs ----

    def test_plain_logs_keep_their_values(self):
        plain_log(self.path("log.jsonl"))
        for log, experts in (("log.jsonl", "16"), (VLLM_LOG, "60")):
            with self.subTest(log):
                self.moetrace("convert", log, "--num-experts", experts, "-o", "a.arrows", "--force")
                self.moetrace("verify", "a.arrows")
                self.moetrace("convert", "a.arrows", "-o", "a2.jsonl", "--force")
                self.moetrace("convert", log, "--num-experts", experts, "-o", "b.jsonl", "--force")
                self.moetrace("verify", "b.jsonl")
                for name in ("a2.jsonl", "b.jsonl"):
                    self.assertTrue(rows_of(self.path(name)) == rows_of(self.path(log)))

    def test_the_meta_line_of_a_plain_log(self):
        plain_log(self.path("log.jsonl"), passes=1)
        self.moetrace("convert", "log.jsonl", "--num-experts", "16", "-o", "a.jsonl")
        [meta] = lines_of(self.path("a.jsonl"), "meta")
        [before] = lines_of(self.path("log.jsonl"), "meta")
        self.assertEqual({key: meta[key] for key in before}, before)
        for key in ("router", "rank", "host", "engine", "num_layers"):
            self.assertIsNone(meta[key])
        self.assertTrue(
            all(step["time_ns"] is None for step in lines_of(self.path("a.jsonl"), "step"))
        )

    def test_a_plain_log_of_unknown_experts(self):
        plain_log(self.path("log.jsonl"))
        self.moetrace("convert", "log.jsonl", "-o", "a.arrows", code=2)
        self.assertIn("how many experts the model has; give --num-experts N", self.err)

    # ---- losses ----

    def refused(self, text, line, what, kind):
        """Without --lossy one line says where and what; with it, one says how often."""
        self.write("one.jsonl", text)
        self.moetrace("convert", "one.jsonl", "-o", "two.arrows", code=1)
        self.one_line_error()
        place = f"one.jsonl: line {line}: " if line else "one.jsonl: "
        self.assertIn(place, self.err)
        self.assertIn(what, self.err)
        self.assertIn("would be lost; give --lossy", self.err)
        self.assertEqual(self.names(), ["one.jsonl"])
        self.moetrace("convert", "one.jsonl", "-o", "two.arrows", "--lossy")
        self.assertRegex(self.err, rf"\Amoetrace: convert: lost: {kind}[^\n]*\n\Z")
        self.moetrace("convert", "two.arrows", "-o", "back.jsonl")
        back = self.read("back.jsonl").decode()
        for name in ("two.arrows", "two.jsonl", "back.jsonl"):
            os.remove(self.path(name))
        return back

    def with_route(self, change):
        """A trace whose second row is changed, the number of its line, and the text without."""
        lines = MadeTrace(11, differ=False).run(20).end().lines
        rows = [n for n, line in enumerate(lines) if '"route"' in line and '"0.31' not in line]
        at = rows[1]
        kept = list(lines)
        lines[at] = change(lines[at])
        self.assertNotEqual(lines[at], kept[at])
        return "\n".join(lines) + "\n", at + 1, "\n".join(kept) + "\n"

    def test_what_a_row_would_lose(self):
        def weight(text):
            return lambda line: re.sub(r'"topk_weights":\[[^,]*', '"topk_weights":[' + text, line)

        cases = [
            (lambda line: line[:-1] + ',"gate":0.5}', 'its key "gate"', "unknown keys"),
            (lambda line: line.replace(":", ": "), "the way it is written", "spelling"),
            (lambda line: line + "\r", "the way it is written", "spelling"),
            (weight("0.30000000000000004"), "its weight 0.30000000000000004, which", "weights"),
            (weight("0.50"), "its weight 0.50, which would come back as 0.5", "weights"),
            (
                lambda line: re.sub(r'"req_id":(null|"(\\.|[^"])*")', '"req_id":"another"', line),
                'its "req_id" "another"',
                "request names",
            ),
        ]
        for change, what, kind in cases:
            with self.subTest(what):
                text, line, kept = self.with_route(change)
                back = self.refused(text, line, what, kind + r" of 1 line \(first: line \d+\)")
                if kind in ("unknown keys", "spelling", "request names"):
                    self.assertEqual(back, kept)

    def test_what_a_file_would_lose(self):
        text = MadeTrace(12).run(10).end().text()
        lines = text.splitlines(keepends=True)
        blank = "".join([*lines[:5], "\n", *lines[5:]])
        self.assertEqual(self.refused(blank, 6, "the line, which is blank,", "lines"), text)
        self.assertEqual(self.refused(text + "\n\n", len(lines) + 2, "blank", "lines"), text)
        unfinished = "".join(lines[:20]) + lines[20][:30]
        self.assertEqual(
            self.refused(unfinished, 0, "an unfinished line at its end", "an unfinished end"),
            "".join(lines[:20]),
        )
        self.assertEqual(self.refused("\ufeff" + text, 1, "its byte order mark", "spelling"), text)

    def test_weights_that_are_not_kept(self):
        text = MadeTrace(13, differ=False).run(20).end().text()
        self.write("one.jsonl", text)
        for word in ("float16", "none"):
            self.moetrace("convert", "one.jsonl", "-o", "w.arrows", "--weights", word, code=1)
            self.assertIn(f"with --weights {word}", self.err)
            self.moetrace(
                "convert", "one.jsonl", "-o", f"{word}.arrows", "--weights", word, "--lossy"
            )
            self.assertEqual(self.err, "moetrace: convert: lost: weights\n")
        # From the file without them nothing more is lost; but from the other one is.
        self.moetrace("convert", "none.arrows", "-o", "again.arrows", "--weights", "none")
        self.moetrace("convert", "float16.arrows", "-o", "x.arrows", "--weights", "none", code=1)
        self.moetrace("convert", "float16.arrows", "-o", "h.jsonl")
        self.moetrace("convert", "h.jsonl", "-o", "i.arrows", "--weights", "float16", "--lossy")
        self.assertEqual(self.read("i.arrows"), self.read("float16.arrows"))

    def test_what_a_plain_log_would_lose(self):
        row = '{"type":"route","layer":0,"topk_ids":[1,0]%s}\n'
        meta = '{"type":"meta","top_k":2,"num_experts":4,"layers_logged":[0]%s}\n'
        self.refused(meta % "" + row % ',"gate":1', 2, 'its key "gate"', "unknown keys of 1 line")
        self.refused(meta % ',"x":1' + row % "", 1, 'the key "x" of its meta line', "unknown keys")
        self.refused(meta % "" + row % "" + '{"type":"pass"}\n', 3, "the line", "lines")

    def test_traces_that_contradict_themselves(self):
        text, _, _ = self.with_route(lambda line: re.sub(r'"seq":\d+', '"seq":0', line))
        self.write("one.jsonl", text)
        self.moetrace("convert", "one.jsonl", "-o", "two.arrows", "--lossy", code=1)
        self.assertIn('"seq" is 0, but the lines before it have passed all below', self.err)
        first = MadeTrace(1).run(3).lines
        first.append(
            '{"type":"end","attempted":0,"delivered":0,"filtered":0,"dropped":0,"torn":0,'
            '"status":"continued","open":0}'
        )
        second = MadeTrace(1, part=2).run(3).lines
        self.write("one.jsonl", "\n".join(first + second) + "\n")
        self.moetrace("convert", "one.jsonl", "-o", "two.arrows", code=1)
        self.assertIn("a second part begins here; convert each part as a file of its own", self.err)

    # ---- names ----

    def test_names(self):
        self.write("one.jsonl", MadeTrace(14).run(3).end().text())
        for arguments, code, what in (
            (("-o", "x.parquet"), 2, "python3 -m moetrace.parquet one.jsonl x.parquet"),
            (("-o", "x.txt"), 2, "end it in .jsonl for JSON Lines, or in .arrows"),
            (("-o", "x.jsonl", "--compress", "small"), 2, "are for rows as Arrow"),
            (("-o", "x.arrows", "--compress", "tiny"), 2, "'tiny': expected one of fast, small"),
            (("-o", "missing/x.jsonl"), 1, "can't make it: No such file or directory"),
            (("-o", "one.arrows"), 1, "one.jsonl: is a file of the input; give another -o"),
            (("-o", "one.arrows", "--force"), 1, "one.jsonl: is a file of the input"),
            (("-o", "one.jsonl", "--force"), 1, "one.jsonl: is a file of the input"),
        ):
            with self.subTest(arguments):
                self.moetrace("convert", "one.jsonl", *arguments, code=code)
                self.one_line_error()
                self.assertIn(what, self.err)
                self.assertEqual(self.names(), ["one.jsonl"])

    def test_a_name_that_is_taken(self):
        text = MadeTrace(15).run(3).end().text()
        self.write("one.jsonl", text)
        for taken in ("two.jsonl", "two.arrows"):
            self.write(taken, "mine\n")
            self.moetrace("convert", "one.jsonl", "-o", "two.arrows", code=1)
            self.assertIn(f"{taken}: exists; give another -o, or --force", self.err)
            self.assertEqual(self.read(taken), b"mine\n")
            self.assertEqual(self.names(), sorted(["one.jsonl", taken]))
            os.remove(self.path(taken))
        self.write("two.arrows", "mine\n")
        self.moetrace("convert", "one.jsonl", "-o", "two.arrows", "--force")
        self.assertEqual(self.moetrace("convert", "two.arrows", "-o", "-"), text)

    # ---- interruptions ----

    def begun(self, *output, **how):
        """A conversion that waits for more input, and the input's end of a pipe."""
        process = subprocess.Popen(
            [program("moetrace"), "convert", "-", "-o", *output],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.dir,
            **how,
        )
        self.started.append(process)
        process.stdin.write(MadeTrace(16).run(20).text().encode())
        process.stdin.flush()
        return process

    def partial(self):
        return [name for name in self.names() if "partial" in name]

    def test_signals(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with self.subTest(number):
                process = self.begun("two.arrows")
                self.wait_for(lambda: len(self.partial()) == 2, "the temporary files")
                process.send_signal(number)
                _, error = process.communicate(timeout=60)
                self.assertEqual(process.returncode, -number)
                self.assertEqual(
                    error.decode(),
                    "moetrace: convert: interrupted; nothing was written; run it again\n",
                )
                self.assertEqual(self.names(), [])

    def test_a_full_disk(self):
        text = MadeTrace(17, differ=False).run(3000).end().text()
        self.write("one.jsonl", text)

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

        for output in ("two.arrows", "back.jsonl"):
            done = self.convert_from(None, "one.jsonl", "-o", output, preexec_fn=limit)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(
                done.stderr,
                r"\Amoetrace: [^\n]*: can't write it: [^\n]*nothing was "
                r"written; make room, or give another -o\n\Z",
            )
            self.assertEqual(self.names(), ["one.jsonl"])
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [program("moetrace"), "convert", "one.jsonl", "-o", "-"],
                cwd=self.dir,
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        self.assertEqual(done.returncode, 1)
        self.assertIn("standard output: can't write it: No space left", done.stderr)

    def test_a_reader_that_goes_away(self):
        self.write("one.jsonl", MadeTrace(18, differ=False).run(3000).end().text())
        process = self.start("moetrace", "convert", "one.jsonl", "-o", "-")
        process.stdout.close()
        self.assertEqual(process.wait(60), -signal.SIGPIPE)

    def test_a_fault_in_the_input(self):
        text = MadeTrace(19).run(20).end().text()
        self.write("one.jsonl", text + "nonsense\n")
        for output in ("two.arrows", "back.jsonl"):
            self.moetrace("convert", "one.jsonl", "-o", output, code=1)
            self.one_line_error()
            self.assertEqual(self.names(), ["one.jsonl"])

    # ---- memory ----

    def test_memory_does_not_grow(self):
        """300,000 rows are more than 60 MB of lines."""
        made = MadeTrace(20, differ=False)
        text = made.run(16_000).end().text()
        self.assertGreater(len(text), 30 << 20)
        self.write("one.jsonl", text)

        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))

        for source, output in (("one.jsonl", "two.arrows"), ("two.arrows", "back.jsonl")):
            done = self.convert_from(None, source, "-o", output, preexec_fn=limit)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assert_same(self.read("back.jsonl").decode(), text)


if __name__ == "__main__":
    cli_case.main()
