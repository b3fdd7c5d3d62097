#!/usr/bin/python3
"""moetrace-plot as a user meets it: files, exit codes, one line of error.

usage: moetrace_plot_test.py PATH_OF_MOETRACE_PLOT
"""

import gzip
import json
import os
import subprocess
import sys
import tempfile
import unittest

PLOT = sys.argv.pop(1)
META = {
    "type": "meta",
    "model_id": "tiny",
    "layers_logged": [0],
    "top_k": 2,
    "num_experts": 8,
    "schema": "moetrace/1",
    "trace_id": "t",
}
ROUTE = {
    "type": "route",
    "req_id": "r",
    "token_idx": 0,
    "layer": 0,
    "topk_ids": [3, 1],
    "topk_weights": [0.5, None],
}


class MoetracePlot(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.out = os.path.join(self.folder.name, "out")

    def trace(self, *lines, name="t.jsonl", end="\n"):
        path = os.path.join(self.folder.name, name)
        with open(path, "w") as file:
            file.write("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines) + end)
        return path

    def plot(self, *arguments):
        return subprocess.run([PLOT, *arguments], capture_output=True, text=True, timeout=60)

    def fails(self, code, why, *arguments):
        done = self.plot(*arguments)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertEqual(done.stdout, "")
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertTrue(done.stderr.startswith("moetrace-plot: "), done.stderr)
        self.assertIn(why, done.stderr)
        self.assertRegex(done.stderr, r"; [^;]+\n\Z")  # what to try

    def test_writes_pictures_and_metrics(self):
        done = self.plot(self.trace(META, ROUTE), "-o", self.out, "--layer", "0")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(
            sorted(os.listdir(self.out)),
            [
                "expert_heatmap.png",
                "expert_hist.png",
                "expert_hist_layer0.png",
                "expert_metrics.json",
            ],
        )
        with open(os.path.join(self.out, "expert_hist.png"), "rb") as file:
            self.assertEqual(file.read(8), b"\x89PNG\r\n\x1a\n")
        with open(os.path.join(self.out, "expert_metrics.json")) as file:
            metrics = json.load(file)
        self.assertEqual(
            (metrics["total_selections"], metrics["dropped"], metrics["torn"]), (2, 0, 0)
        )

    def test_names_missing_fonts(self):
        trace = self.trace(META, ROUTE)
        self.assertEqual(self.plot(trace, "-o", self.out).stderr, "")
        nowhere = os.path.join(self.folder.name, "fonts.conf")
        with open(nowhere, "w") as file:
            file.write("<fontconfig></fontconfig>\n")
        done = subprocess.run(
            [PLOT, trace, "-o", self.out],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "FONTCONFIG_FILE": nowhere},
        )
        self.assertEqual(done.returncode, 0)
        self.assertRegex(
            done.stderr,
            r"moetrace-plot: the fonts here lack signs of the pictures, [^\n]*; install [^\n]*\n\Z",
        )

    def test_names_missing_letters_of_a_name(self):
        for name, why in (
            ("模型", ""),
            ("\U00013000", "moetrace-plot: the fonts here lack letters of the model's name, "),
        ):
            done = self.plot(self.trace({**META, "model_id": name}, ROUTE), "-o", self.out)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertTrue(done.stderr.startswith(why), done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1 if why else 0, done.stderr)

    def peak_memory(self, steps):
        """Returns the peak memory in KiB of a run over a trace of `steps` steps.

        Each step has its own request and a loss."""
        path = os.path.join(self.folder.name, f"{steps}.jsonl")
        with open(path, "w") as file:
            file.write(json.dumps({**META, "trace_id": str(steps)}) + "\n")
            for n in range(steps):
                file.write(
                    f'{{"type":"request","req_id":"r{n}","prompt_tokens":1,"cached_tokens":0,'
                    f'"request":{n},"event":{n}}}\n'
                    f'{{"type":"route","req_id":"r{n}","token_idx":0,"layer":0,'
                    f'"topk_ids":[{n % 8},null],'
                    f'"topk_weights":[0.5,null],"request":{n},"step":{n},"seq":{n}}}\n'
                    f'{{"type":"loss","dropped":1,"dropped_total":{n + 1},'
                    f'"cause":"ring_full","after_seq":{n}}}\n'
                )
        with subprocess.Popen([PLOT, path, "-o", self.out], stdout=subprocess.DEVNULL) as process:
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, 0)
        with open(os.path.join(self.out, "expert_metrics.json")) as file:
            metrics = json.load(file)
        self.assertEqual((metrics["rows"], metrics["dropped"]), (steps, steps))
        return usage.ru_maxrss

    def test_memory_does_not_grow_with_the_trace(self):
        short, long = self.peak_memory(20_000), self.peak_memory(200_000)
        self.assertLess(long, short + 2 * 1024)

    def test_formats(self):
        for name, magic in (("svg", b"<?xml"), ("pdf", b"%PDF")):
            done = self.plot(self.trace(META, ROUTE), "-o", self.out, "--format", name)
            self.assertEqual(done.returncode, 0, done.stderr)
            with open(os.path.join(self.out, "expert_hist." + name), "rb") as file:
                self.assertTrue(file.read(8).startswith(magic))

    def test_trace_without_routes(self):
        done = self.plot(self.trace(META), "-o", self.out)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(os.path.join(self.out, "expert_metrics.json")) as file:
            metrics = json.load(file)
        self.assertEqual(metrics["total_selections"], 0)
        self.assertEqual(metrics["top_3_experts"], [])
        self.assertIsNone(metrics["shannon_entropy_bits"])
        self.assertIsNone(metrics["normalized_entropy"])
        self.assertEqual(metrics["max_entropy_bits"], 3)

    def test_bad_traces(self):
        self.fails(1, "line 2: not JSON", self.trace(META, "nonsense"), "-o", self.out)
        self.fails(
            1,
            "not a trace: its first line is neither a meta line nor a row; give",
            self.trace({"type": "later"}),
            "-o",
            self.out,
        )
        self.fails(
            1,
            "line 1: unfinished: it has no newline; wait",
            self.trace('{"type":"meta","top', end=""),
            "-o",
            self.out,
        )
        self.fails(
            1,
            "expert id 8 is out of range (0 to 7)",
            self.trace(META, {**ROUTE, "topk_ids": [1, 8]}),
            "-o",
            self.out,
        )
        self.fails(1, "not a trace: it is empty; wait", self.trace("", end=""), "-o", self.out)
        self.fails(1, "No such file", os.path.join(self.folder.name, "none"), "-o", self.out)
        self.fails(1, "is a folder", self.folder.name, "-o", self.out)
        self.assertFalse(os.path.exists(self.out), "a bad trace leaves nothing behind")

    def test_plain_log_needs_the_number_of_experts(self):
        meta = {"type": "meta", "model_id": "m", "layers_logged": [0], "top_k": 2}
        log = self.trace(meta, ROUTE)
        self.fails(
            1,
            "t.jsonl: it does not state the model's number of experts, only that it is at least 4; "
            "give --num-experts N\n",
            log,
            "-o",
            self.out,
        )
        self.fails(
            1,
            "line 2: expert id 3 is out of range (0 to 1, as given): "
            "the model has at least 4 experts; "
            "give a larger --num-experts\n",
            log,
            "-o",
            self.out,
            "--num-experts",
            "2",
        )
        self.assertEqual(self.plot(log, "-o", self.out, "--num-experts", "60").returncode, 0)
        with open(os.path.join(self.out, "expert_metrics.json")) as file:
            metrics = json.load(file)
        self.assertIsNone(metrics["dropped"])
        self.assertIsNone(metrics["torn"])
        self.fails(
            1,
            "the trace has 8 experts, not 60",
            self.trace(META),
            "-o",
            self.out,
            "--num-experts",
            "60",
        )

    def metrics_of(self, *arguments, said=""):
        done = self.plot(*arguments, "-o", self.out)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr, said)
        with open(os.path.join(self.out, "expert_metrics.json")) as file:
            return json.load(file)

    def test_a_trace_that_is_being_written(self):
        """Draws a trace cut at any byte after its meta line; one line says what was left out."""
        whole = "".join(json.dumps(line) + "\n" for line in (META, ROUTE, ROUTE))
        first = len(json.dumps(META)) + 1
        for size in range(first, len(whole) + 1, 7):
            text = whole[:size]
            last = text.rsplit("\n", 1)[1]
            rows = text.count("\n") - 1 + last.endswith("]}")
            path = self.trace(text, end="")
            said = (
                (
                    f"moetrace-plot: {path}: left out 1 unfinished line: "
                    f"line {text.count(chr(10)) + 1} has {len(last)} bytes and no "
                    "newline; wait until its writer has ended the line\n"
                ).replace(" 1 bytes", " 1 byte")
                if last and not last.endswith("]}")
                else ""
            )
            with self.subTest(size):
                self.assertEqual(self.metrics_of(path, said=said)["rows"], rows)

    def test_a_file_given_twice_counts_once(self):
        path = self.trace(META, ROUTE)
        other = os.path.join(self.folder.name, "other.jsonl")
        os.link(path, other)
        said = (
            f"moetrace-plot: {other}: is the same file as {path}: counted once; "
            "give each file once\n"
        )
        self.assertEqual(self.metrics_of(path, other, said=said)["rows"], 1)
        self.fails(
            1,
            "is the same trace as",
            path,
            self.trace(META, ROUTE, name="copy.jsonl"),
            "-o",
            self.out,
        )

    def test_standard_input(self):
        with open(self.trace(META, ROUTE), "rb") as file:
            text = file.read()
        for given in (text, gzip.compress(text)):
            done = subprocess.run(
                [PLOT, "-", "-o", self.out], input=given, capture_output=True, timeout=60
            )
            self.assertEqual((done.returncode, done.stderr), (0, b""))
        done = subprocess.run(
            [PLOT, "-", "-o", self.out], input=b"", capture_output=True, timeout=60
        )
        self.assertEqual(
            (done.returncode, done.stderr.split(b";")[0]),
            (1, b"moetrace-plot: standard input: not a trace: it is empty"),
        )

    def test_wrong_usage(self):
        log = self.trace(META, ROUTE)
        for why, *words in (
            ("FILE is missing",),
            ("--output is missing", log),
            ("unknown option --outptu", log, "--outptu", self.out),
            ("--output: its value is missing", log, "-o"),
            ("--output: its value is missing", log, "--output=", self.out),
            ("FILE: its value is missing", "", "-o", self.out),
            ("--help takes no value", "--help=4x"),
            (
                "--format: 'gif': expected one of png, svg, pdf",
                log,
                "-o",
                self.out,
                "--format",
                "gif",
            ),
            (
                "--layer: '256': expected an integer from 0 to 255",
                log,
                "-o",
                self.out,
                "--layer",
                "256",
            ),
            (
                "--num-experts: '0': expected an integer from 1 to 65535",
                log,
                "-o",
                self.out,
                "--num-experts",
                "0",
            ),
            (
                "--num-experts: 'many': expected an integer from 1 to 65535",
                log,
                "-o",
                self.out,
                "--num-experts",
                "many",
            ),
        ):
            self.fails(2, f"moetrace-plot: {why}; see moetrace-plot --help\n", *words)
        self.fails(
            1,
            "layer 7 is not in the trace, which has layer 0; use one of these layers\n",
            log,
            "-o",
            self.out,
            "--layer",
            "7",
        )
        self.fails(
            1,
            "layer 0 is not in the trace, which has no layers; leave --layer out\n",
            self.trace({**META, "layers_logged": []}),
            "-o",
            self.out,
            "--layer",
            "0",
        )
        self.fails(1, "/dev/null", log, "-o", "/dev/null")

    def test_help(self):
        self.assertRegex(self.plot("--version").stdout, r"^moetrace-plot \d+\.\d+\.\d+\n$")
        done = self.plot("--help")
        self.assertEqual(done.returncode, 0)
        for name in (
            "expert_hist.png",
            "expert_hist_layerN.png",
            "expert_heatmap.png",
            "expert_metrics.json",
        ):
            self.assertIn(name, done.stdout)


if __name__ == "__main__":
    unittest.main()
