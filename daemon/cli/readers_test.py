#!/usr/bin/env python3
"""All readers of traces agree: moetrace verify, moetrace replay, moetrace-plot and moetrace.open.

usage: readers_test.py BIN_DIR    (unittest options may follow)

MOETRACE_READER_LIBRARY and PYTHONPATH select the Python package. Without
MOETRACE_READER_LIBRARY the test leaves out moetrace.open.
"""

import bz2
import gzip
import json
import lzma
import os
import pathlib
import re
import shutil
import subprocess

import cli_case
from cli_case import CliTest, lines_of, program

PYTHON = """
import sys
import moetrace
try:
    trace = moetrace.open(sys.argv[1], num_experts=int(sys.argv[2]) if sys.argv[2] else None)
    rows = trace.read()
    print(len(rows), int(trace.experts().sum()))
except moetrace.ReadError as error:
    raise SystemExit(f"moetrace: {error}")
"""
ROWS = pathlib.Path(__file__).resolve().parents[2] / "trace/testdata/rows"
META = {
    "type": "meta",
    "model_id": "lab/tiny-moe",
    "layers_logged": [0],
    "top_k": 2,
    "num_experts": 4,
}
ROW = {
    "type": "route",
    "req_id": "r1",
    "token_idx": 0,
    "layer": 0,
    "topk_ids": [3, 0],
    "topk_weights": [0.5, 0.25],
}
BARE = {"type": "route", "layer": 0, "topk_ids": [1, 2]}


def text_of(*lines):
    return b"".join(
        (line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines
    )


class ReadersTest(CliTest):
    def readers(self, text, *options):
        """Reads a file with this text with each reader.

        Returns {reader: (exit code, rows and selections or None, lines of standard error)}."""
        with open(self.path("log.jsonl"), "wb") as file:
            file.write(text)
        experts = ["--num-experts", options[0]] if options else []
        answers = {}

        def ran(name, command, env=None):
            done = subprocess.run(
                command,
                env=env or self.env,
                cwd=self.dir,
                capture_output=True,
                text=True,
                timeout=120,
            )
            self.assertNotIn("Traceback", done.stderr)
            answers[name] = [
                done.returncode,
                None,
                [re.sub("^moetrace(-plot)?: ", "", line) for line in done.stderr.splitlines()],
            ]
            return done.stdout

        said = ran("verify", [program("moetrace"), "verify", "log.jsonl"])
        if found := re.search(r"good: ([0-9,]+) rows?", said):
            answers["verify"][1] = int(found[1].replace(",", ""))
        ran("plot", [program("moetrace-plot"), "log.jsonl", "-o", "pictures", *experts])
        if answers["plot"][0] == 0:
            with open(self.path("pictures/expert_metrics.json"), encoding="utf-8") as file:
                metrics = json.load(file)
            answers["plot"][1] = metrics["rows"]
            self.selections = metrics["total_selections"]
        ran(
            "replay",
            [
                program("moetrace"),
                "run",
                "-o",
                "copy.jsonl",
                "--",
                program("moetrace"),
                "replay",
                *experts,
                "log.jsonl",
            ],
        )
        answers["replay"][2] = [line for line in answers["replay"][2] if "log.jsonl: " in line]
        if os.path.exists(self.path("copy.jsonl")):
            if answers["replay"][0] == 0:
                self.moetrace("verify", "copy.jsonl")
                answers["replay"][1] = len(lines_of(self.path("copy.jsonl"), "route"))
                self.copy_meta = lines_of(self.path("copy.jsonl"), "meta")[0]
            os.remove(self.path("copy.jsonl"))
        if "MOETRACE_READER_LIBRARY" in os.environ:
            env = self.env | {
                name: os.environ[name] for name in ("MOETRACE_READER_LIBRARY", "PYTHONPATH")
            }
            said = ran(
                "python",
                ["/usr/bin/python3", "-B", "-c", PYTHON, "log.jsonl", *(options or ("",))],
                env,
            )
            if answers["python"][0] == 0:
                answers["python"][1], selections = map(int, said.split())
                self.assertEqual(selections, self.selections)
        return answers

    def assert_rows(self, rows, text, *options, warning=None):
        for reader, (code, got, said) in self.readers(text, *options).items():
            with self.subTest(reader):
                self.assertEqual((code, got), (0, rows), said)
                self.assertEqual(len(said), 0 if warning is None else 1, said)
                if warning is not None:
                    self.assertRegex(said[0], "^log.jsonl: " + warning)

    def assert_refused(self, why, text, *options):
        for reader, (code, _, said) in self.readers(text, *options).items():
            with self.subTest(reader):
                self.assertNotEqual(code, 0)
                self.assertEqual(len(said), 1, said)
                self.assertRegex(said[0], f"^log.jsonl: {why}")
                self.assertRegex(said[0], "; [^;]+$")

    def test_last_lines(self):
        self.assert_rows(1, text_of(META, ROW)[:-1])
        self.assert_rows(
            1,
            text_of(META, ROW) + json.dumps(ROW).encode()[:38],
            warning="left out 1 unfinished line: line 3 has 38 bytes and no newline; wait",
        )
        self.assert_rows(1, text_of(META, b"", ROW, b"   ", b"  "))
        self.assert_rows(
            1,
            text_of(META, ROW) + b"\0" * 100,
            warning="left out 1 unfinished line: line 3 has 100 bytes",
        )

    def test_rows_in_another_file(self):
        for name in ("trace", "half", "ids"):
            with open(ROWS / f"{name}.jsonl", "rb") as file:
                text = file.read()
            shutil.copy(ROWS / f"{name}.arrows", self.path("log.arrows"))
            self.assert_rows(11, text)
        with open(self.path("log.arrows"), "r+b") as file:
            file.truncate(1500)
        self.assert_damaged("log.arrows: byte [0-9]+: the message is cut: ", text)
        os.remove(self.path("log.arrows"))
        self.assert_damaged("log.jsonl: its rows are in ids.arrows, which is not there", text)

    def assert_damaged(self, why, text):
        """Each refuses; moetrace.open has said before what is missing."""
        for reader, (code, _, said) in self.readers(text).items():
            with self.subTest(reader):
                self.assertNotEqual(code, 0)
                if reader != "replay":  # it is told apart by the name log.jsonl
                    self.assertRegex(said[-1], f"^(warning: )?{why}.*; [^;]+$")

    def test_logs_of_other_hooks(self):
        again = {**META, "seed": 1024}
        del again["num_experts"]
        self.assert_rows(
            3, text_of(again, ROW, ROW, again, ROW), "4"
        )  # a meta line before every pass
        self.assert_rows(2, text_of(META, ROW) + text_of(META, ROW))  # cat a b
        self.assert_rows(
            3,
            text_of(META, ROW)
            + text_of({**META, "layers_logged": [5]}, {**ROW, "layer": 5}, {**ROW, "layer": 3}),
        )
        self.assertEqual(self.copy_meta["layers_logged"], [0, 3, 5])
        self.assert_rows(2, text_of(ROW, META, ROW))  # late
        self.assertEqual(
            (self.copy_meta["model_id"], self.copy_meta["layers_logged"]), ("lab/tiny-moe", [0])
        )
        self.assert_rows(2, text_of(ROW, {**ROW, "layer": 2}), "4")  # never
        self.assertEqual(
            (self.copy_meta["model_id"], self.copy_meta["layers_logged"]), (None, [0, 2])
        )
        self.assert_rows(2, text_of(META, BARE, BARE))  # layer and ids only
        self.assert_rows(
            2, text_of({"type": "meta", "num_experts": 4}, BARE, {**BARE, "topk_weights": None})
        )
        self.assert_rows(1, b"\xef\xbb\xbf" + text_of(META, ROW))

    def test_logs_that_contradict_themselves(self):
        for key, value, why in (
            ("model_id", "other", '"model_id" is "other", before it was "lab/tiny-moe"'),
            ("top_k", 3, '"top_k" is 3, before it was 2'),
            ("num_experts", 8, '"num_experts" is 8, before it was 4'),
        ):
            self.assert_refused(
                "line 3: the meta line says " + why, text_of(META, ROW, {**META, key: value}, ROW)
            )
        self.assert_refused(
            'line 2: "topk_ids" has 3 entries, top_k is 2',
            text_of(META, {**ROW, "topk_ids": [1, 2, 3]}),
        )
        self.assert_refused("line 2: not JSON", text_of(META, b"nonsense", ROW))

    def test_two_traces_in_one_file(self):
        # As a collector writes it.
        unknown = dict.fromkeys(
            (
                "vllm_version",
                "torch_version",
                "engine",
                "engine_version",
                "rank",
                "world_size",
                "created_at",
                "host",
                "router",
                "ranks",
                "device",
                "seed",
            )
        )
        trace = {
            **unknown,
            **META,
            "num_layers": None,
            "sample_every": 1,
            "schema": "moetrace/1",
            "trace_id": "00000000-0000-4000-8000-000000000001",
        }
        self.assert_refused(
            "line 2: a second trace begins here",
            text_of(trace, {**trace, "trace_id": "00000000-0000-4000-8000-000000000002"}),
        )
        self.assert_refused(
            "line 2: a trace begins here, after a plain log", text_of(ROW, trace), "4"
        )

    def test_compressed(self):
        text = text_of(META, *({**ROW, "req_id": str(n * n)} for n in range(1000)))
        packings = [gzip.compress(text), gzip.compress(text[:500]) + gzip.compress(text[500:])]
        if shutil.which("zstd"):
            packings.append(
                subprocess.run(["zstd", "-q"], input=text, capture_output=True, check=True).stdout
            )
        for packed in packings:
            self.assert_rows(1000, packed)
        self.assert_refused(
            "not a trace: it is compressed with xz, .*; unpack it first: xz -dk FILE",
            lzma.compress(text),
        )
        self.assert_refused(
            "not a trace: it is compressed with bzip2, .*; unpack it first: bzip2 -dk FILE",
            bz2.compress(text),
        )
        # One that is still being written.
        for reader, (code, rows, said) in self.readers(
            packings[0][: len(packings[0]) // 2]
        ).items():
            with self.subTest(reader):
                self.assertEqual((code, len(said)), (0, 1), said)
                self.assertLess(rows, 1000)
                self.assertRegex(
                    said[0], "^log.jsonl: the compressed data end early, (in|after) line [0-9]+"
                )

    def test_standard_input(self):
        text = text_of(META, *[ROW] * 10)
        for given in (text, gzip.compress(text)):
            done = subprocess.run(
                [program("moetrace"), "verify", "-"], input=given, capture_output=True, timeout=60
            )
            self.assertEqual(
                (done.returncode, done.stdout.split(b";")[0]),
                (0, b"standard input: good: 10 rows of a plain log"),
            )
            with open(self.path("given"), "wb") as file:
                file.write(given)
            with (
                open(self.path("given"), "rb") as file,
                subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE) as cat,
            ):
                done = subprocess.run(
                    [
                        program("moetrace"),
                        "run",
                        "-o",
                        "copy.jsonl",
                        "--",
                        program("moetrace"),
                        "replay",
                        "-",
                    ],
                    stdin=cat.stdout,
                    env=self.env,
                    cwd=self.dir,
                    capture_output=True,
                    text=True,
                    timeout=60,
                )
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(len(lines_of(self.path("copy.jsonl"), "route")), 10)
            os.remove(self.path("copy.jsonl"))


if __name__ == "__main__":
    cli_case.main()
