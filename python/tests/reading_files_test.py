"""moetrace.open on files made by hand: growing, compressed, of other hooks; and every file that is
not a trace is one error line.

MOETRACE_LIBRARY, MOETRACE_READER_LIBRARY, MOETRACED and MOETRACE_CLI name the libraries and the
programs; the package is on PYTHONPATH.
"""

import contextlib
import importlib.util
import io
import json
import logging
import os
import resource
import subprocess
import sys
import threading
import unittest

import moetrace
import numpy
from reading_case import META, PLAIN_META, Case, packings, route


class Written(Case):
    """Files made by hand."""

    def test_lines_that_the_collector_writes_otherwise(self):
        other = json.dumps(
            route(3, 2, (None, 7), (None, 1), req_id='é"\n', request=5), indent=None
        ).encode()
        trace = self.open(
            self.write(
                META,
                other,
                {"type": "later", "x": [{}]},
                route(req_id=None, request=None, token=None),
            )
        )
        batch = trace.read()
        self.assertEqual(batch.topk_ids.tolist(), [[-1, 7], [3, 0]])
        self.assertTrue(numpy.isnan(batch.topk_weights[0, 0]))
        self.assertEqual(
            (batch.req_id.tolist(), batch.request.tolist(), batch.token_idx.tolist()),
            (['é"\n', None], [5, -1], [3, -1]),
        )
        self.assertEqual([request.req_id for request in trace.requests()], ['é"\n'])

    def test_plain_logs(self):
        keys = ("type", "req_id", "token_idx", "layer", "topk_ids", "topk_weights")
        rows = [
            {key: row[key] for key in keys}
            for row in (route(0), route(1, ids=(7, 1), request=1), route(0, ids=(5, 6)))
        ]
        path = self.write(
            PLAIN_META, *[json.dumps(row).replace("0.25", "NaN").encode() for row in rows]
        )
        trace = self.open(path)
        self.assertEqual((trace.num_experts, trace.num_layers, trace.end), (None, 1, None))
        self.assertEqual([request[:2] for request in trace.requests()], [("r0", 0), ("r1", 1)])
        self.assertEqual(trace.request("r0").ids.tolist(), [[[5, 6]]])  # the last one counts
        batch = trace.read()
        self.assertEqual((batch.step.tolist(), batch.seq.tolist()), ([-1] * 3, [-1] * 3))
        self.assertEqual(repr(batch), "<moetrace.Batch: 3 rows of top-2, requests 0-1, layers 0>")
        with self.assertRaisesRegex(
            moetrace.ReadError, "does not say how many experts there are; give num_experts$"
        ):
            trace.experts()
        experts = self.open(path, num_experts=60).experts()
        self.assertEqual((experts.shape, experts.sum(), experts[0, 5]), ((1, 60), 6, 1))

    def test_a_last_line_without_a_newline(self):
        """It counts if it is whole, and is else left out; one line of the log says so."""
        whole = json.dumps(route(1)).encode()
        for size in (1, 30, len(whole) - 1):
            trace = self.open(self.write(META, route(0), whole[:size], end=""))
            with self.assertLogs("moetrace", "WARNING") as log:
                self.assertEqual(trace.read().token_idx.tolist(), [0])
                self.assertEqual((trace.requests()[0].rows, trace.unfinished), (1, size))
            self.assertEqual(
                [record.getMessage() for record in log.records],
                [
                    f"moetrace: {trace.path}: left out 1 unfinished line: "
                    f"line 3 has {size} byte{'s' * (size > 1)} and no "
                    "newline; wait until its writer has ended the line"
                ],
            )
        with (
            self.assertNoLogs("moetrace")
            if hasattr(self, "assertNoLogs")
            else contextlib.nullcontext()
        ):
            trace = self.open(self.write(META, route(0), whole, end=""))
            self.assertEqual(
                (trace.read().token_idx.tolist(), trace.requests()[1:], trace.unfinished),
                ([0, 1], [], 0),
            )
            self.assertEqual(
                (trace.requests()[0].rows, trace.request("r0").ids.shape[0], trace.experts().sum()),
                (2, 2, 4),
            )
            self.assertEqual(len(self.open(self.write(META, end="")).read()), 0)
            self.assertEqual(self.open(self.write(META, route(0), b"\n  ", end="")).unfinished, 0)

    def test_a_file_that_grows_byte_by_byte(self):
        """Whatever was there of a line when it was looked at: every row comes once, in numbers and
        in lines."""
        logging.disable(logging.WARNING)  # each of many traces says that it has an unfinished line
        self.addCleanup(logging.disable, logging.NOTSET)
        text = b"".join(
            json.dumps(line).encode() + b"\n"
            for line in (META, route(0), route(1), route(2, request=1))
        )
        path = self.write(b"", end="")
        path.write_bytes(text[: len(json.dumps(META))])
        trace, looks = self.open(path), 0
        for size in range(len(json.dumps(META)), len(text) + 1):
            path.write_bytes(text[:size])
            with contextlib.closing(self.open(path)) as fresh:
                whole = fresh.read().token_idx.tolist()
            self.assertEqual(trace.experts().sum(), 2 * len(whole), size)
            self.assertEqual(trace.read().token_idx.tolist(), whole, size)
            self.assertEqual(sum(request.rows for request in trace.requests()), len(whole), size)
            looks += 1
        self.assertEqual((whole, looks), ([0, 1, 2], len(text) - len(json.dumps(META)) + 1))
        path.write_bytes(text + b"nonsense\n")  # the number of the line is right after all that
        self.assert_wrong("line 5: not JSON", path)
        with self.assertRaisesRegex(moetrace.ReadError, "line 5: not JSON"):
            trace.requests()
        # A line that goes on after what was whole.
        path.write_bytes(text[:-1])
        trace = self.open(path)
        self.assertEqual(len(trace.read()), 3)
        path.write_bytes(text[:-1] + b" and more\n")
        with self.assertRaisesRegex(moetrace.ReadError, "line 4: not JSON"):
            trace.requests()

    def test_blank_lines_and_a_byte_order_mark(self):
        trace = self.open(
            self.write(
                b"\xef\xbb\xbf" + json.dumps(META).encode(),
                b"",
                b" \t\r",
                route(0),
                b"",
                b"nonsense",
            )
        )
        with self.assertRaisesRegex(moetrace.ReadError, "line 6: not JSON"):
            trace.requests()
        self.assertEqual(next(trace.batches()).token_idx.tolist(), [0])

    def test_a_file_without_a_newline(self):
        """Refused after as much of it as a line may have, in a time that grows with that."""
        path = self.folder / "one_line"
        with path.open("wb") as file:
            file.truncate(4 << 30)  # zeros that take no room
        self.assert_wrong("not a trace: its first line is longer than 16 MiB", path)
        with path.open("r+b") as file:
            file.write(json.dumps(META).encode() + b"\n{")
        self.assert_wrong(
            "line 2: longer than 16 MiB, the most that a line of a trace may have; give", path
        )

    def test_logs_of_other_hooks(self):
        bare = {"type": "route", "layer": 1, "topk_ids": [3, 0]}
        trace = self.open(
            self.write(bare, {**bare, "req_id": "r", "token_idx": 4, "topk_weights": None})
        )
        batch = trace.read()
        self.assertEqual(
            (batch.request.tolist(), batch.token_idx.tolist(), batch.req_id.tolist()),
            ([-1, 0], [-1, 4], [None, "r"]),
        )
        self.assertTrue(numpy.isnan(batch.topk_weights).all())
        self.assertEqual(
            (trace.meta, trace.top_k, trace.num_experts, trace.num_layers), ({}, 2, None, 2)
        )
        with self.assertRaisesRegex(moetrace.ReadError, "give num_experts$"):
            trace.experts()
        self.assertEqual(
            self.open(trace.path, num_experts=4).experts().tolist(), [[0] * 4, [2, 0, 0, 2]]
        )
        # The meta line comes late, and again.
        late = {"type": "meta", "model_id": "m", "num_experts": 4}
        trace = self.open(self.write(bare, late, bare, late))
        self.assertEqual((trace.experts().tolist(), trace.meta), ([[0] * 4, [2, 0, 0, 2]], late))
        self.assert_wrong(
            'line 4: the meta line says "model_id" is "n", before it was "m"; '
            "give each log as a file of its own",
            self.write(bare, late, bare, {**late, "model_id": "n"}),
        )
        # A meta line without top_k, and a row only later.
        path = self.write(late)
        trace = self.open(path)
        self.assertEqual((trace.top_k, list(trace.batches()), len(trace.read())), (0, [], 0))
        path.write_bytes(path.read_bytes() + json.dumps(bare).encode() + b"\n")
        self.assertEqual(trace.read().topk_ids.tolist(), [[3, 0]])

    def test_a_name_that_comes_again_in_a_plain_log(self):
        keys = ("type", "req_id", "token_idx", "layer", "topk_ids")
        rows = [
            {key: row[key] for key in keys}
            for row in (route(0), route(1), route(0, ids=(5, 6)), route(None))
        ]
        trace = self.open(self.write(PLAIN_META, *rows))
        with self.assertLogs("moetrace", "WARNING") as log:
            routing = trace.request("r0")
        self.assertEqual((routing.left_out, routing.ids.tolist()), (2, [[[5, 6]], [[3, 0]]]))
        self.assertRegex(
            log.records[0].getMessage(), "request 'r0': left out 2 of its 4 rows, .*; batches"
        )
        self.assertIn(", 2 left out; [2, 1, 2]>", repr(routing))

    def test_compressed_files(self):
        text = (
            b"\n".join(
                json.dumps(line).encode()
                for line in (META, *(route(n, request=n % 7) for n in range(5000)))
            )
            + b"\n"
        )
        plain = self.write(text[:-1])
        expected = self.open(plain)
        for name, packed in packings(text):
            path = self.folder / f"{name}.jsonl"  # not told by its name
            path.write_bytes(packed)
            trace = self.open(path)
            for column in ("token_idx", "topk_ids", "topk_weights"):
                numpy.testing.assert_array_equal(
                    getattr(trace.read(), column), getattr(expected.read(), column)
                )
            self.assertEqual(trace.requests(), expected.requests())
            numpy.testing.assert_array_equal(trace.request("r5").ids, expected.request("r5").ids)
            batches = trace.batches(100)  # two passes at once
            self.assertEqual(
                [len(next(batches)), len(trace.read()), len(next(batches))], [100, 5000, 100]
            )
            # Still being written: what is there of it.
            path.write_bytes(packed[: len(packed) // 2])
            trace = self.open(path)
            with self.assertLogs("moetrace", "WARNING") as log:
                some = len(trace.read())
                self.assertEqual(sum(request.rows for request in trace.requests()), some)
            self.assertRegex(log.records[0].getMessage(), "the compressed data end early, in line ")
            self.assertEqual(len(log.records), 1)
            path.write_bytes(packed)
            self.assertEqual(
                (len(trace.read()), sum(request.rows for request in trace.requests())), (5000, 5000)
            )
            path.write_bytes(packed[:200] + bytes(50) + packed[250:])
            self.assert_wrong(
                "the compressed data are damaged: .*; test the file with|line [0-9]+: not JSON",
                path,
            )
            with contextlib.suppress(StopIteration):
                path.write_bytes(
                    next(again for kind, again in packings(text + b"nonsense\n") if kind == name)
                )
                self.assert_wrong("line 5002: not JSON.*cat FILE | sed -n 5002p", path)

    def test_what_is_no_regular_file(self):
        text = "".join(json.dumps(line) + "\n" for line in (META, route(0), route(1))).encode()
        path = self.write(text[:-1])
        with path.open("rb") as file, self.open(file) as trace:
            self.assertEqual((len(trace.read()), trace.path), (2, str(path)))
        with self.open(io.BytesIO(text)) as trace:
            self.assertEqual((len(trace.read()), trace.requests()[0].rows), (2, 2))
        self.assert_wrong(
            "gives text, not bytes; open it in binary mode", io.StringIO(text.decode())
        )
        self.assert_wrong("is not a regular file; give a trace file", "/dev/null")
        script = (
            "import moetrace; t = moetrace.open('-'); "
            "print(len(t.read()), t.requests()[0].rows, t.path)"
        )

        def read(**standard_input):
            done = subprocess.run(
                [sys.executable, "-c", script],
                capture_output=True,
                timeout=60,
                check=True,
                **standard_input,
            )
            self.assertEqual((done.stdout, done.stderr), (b"2 2 standard input\n", b""))

        for given in (text, *(packed for _, packed in packings(text))):
            read(input=given)
        with path.open("rb") as file:
            read(stdin=file)
        fifo = self.folder / "fifo"
        os.mkfifo(fifo)
        writer = threading.Thread(target=fifo.write_bytes, args=(text,))
        writer.start()
        self.assertEqual(len(self.open(fifo).read()), 2)
        writer.join()

    def test_files_that_are_no_trace(self):
        self.assert_wrong("No such file or directory; give", self.folder / "none")
        self.assert_wrong("is a folder, not a trace file; give the files in it", self.folder)
        self.assert_wrong("embedded null byte; give", "a\0b")
        for nothing in (b"", b"\n", b" \n\t\n  "):
            self.assert_wrong("is still empty; wait", self.write(nothing, end=""))
        self.assert_wrong(
            "its first line has no end yet; wait", self.write(b'{"type":"meta","top', end="")
        )
        for first in (b"nonsense", b"[" * 100_000, b"[1]", b"\n5"):
            self.assert_wrong(
                "not a trace: its first line is not a JSON object; give a file", self.write(first)
            )
        for what, first in (
            ("binary data", b"\0" * 100),
            ("compressed with xz", b"\xfd7zXZ\0"),
            ("a JSON array", b'[{"type": "meta"}]'),
            ("UTF-16 text", json.dumps(META).encode("utf-16")),
            ("a ring segment", b"MOETRACE\x01\0"),
        ):
            self.assert_wrong(f"not a trace: it is {what}", self.write(first))
        self.assert_wrong(
            "not a trace: its first line is neither a meta line nor a row; give",
            self.write({"type": "later"}),
        )
        self.assert_wrong("line 1: .*top_k", self.write({**META, "top_k": 33}))
        self.assert_wrong(
            "line 1: .*seed.*; look at it: sed -n 1p FILE", self.write({**META, "seed": 1 << 70})
        )
        self.assert_wrong(
            "line 1: ",
            self.write(b'{"type":"meta","top_k":2,"x":' + b"[" * 5000 + b"]" * 5000 + b"}"),
        )
        self.assert_wrong("line 1: the trace has 8 experts, not 9", self.write(META), num_experts=9)

    def test_lines_that_are_wrong(self):
        for pattern, line in (
            (
                "not JSON: the line ends in the middle",
                json.dumps(route())[:70].encode(),
            ),  # torn, and others follow
            ("not JSON: invalid UTF-8 or a control character", b"\0" * 64),
            ("not JSON: invalid UTF-8 or a control character", b'{"type":"la\xffter"}'),
            ('"topk_ids" must be a whole number or null, not "3"', route(ids=("3", 0))),
            ('"token_idx" must be a whole number or null, not 1.5', route(1.5)),
            ("expert id 8 is out of range", route(ids=(8, 0))),
            ("layer 3 is out of range", route(0, 3)),
            ('"topk_ids" has 3 entries, top_k is 2', route(ids=(1, 2, 3))),
            ('"topk_weights" has 1 entries, top_k is 2', route(weights=(1,))),
            ('"topk_weights" must be a list of float32', route(weights=(1e300, 1))),
            ('"seq" must be a whole number or null, not 1000000000', route(seq=10**30)),
            ("a number is 2\\^63 - 1 or larger", route((1 << 63) - 1)),
            ("a second trace begins here; give each", META),
            ("nested too deeply", b'{"type":"later","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
            ('missing key "layer"', {"type": "route", "req_id": "r", "token_idx": 0}),
            ("longer than 16 MiB", b" " * ((16 << 20) + 1)),
        ):
            path = self.write(META, route(0), line, route(1))
            for use in (
                lambda trace: trace.requests(),
                lambda trace: trace.read(),
                lambda trace: trace.request("r0"),
            ):
                self.assert_wrong(f"line 3: {pattern}", path, use)
            rows = self.open(path).batches()  # what is before it comes
            self.assertEqual(next(rows).token_idx.tolist(), [0])
            with self.assertRaisesRegex(moetrace.ReadError, f"line 3: {pattern}"):
                next(rows)

    def test_a_position_that_cannot_be(self):
        path = self.write(META, route(0), route((1 << 62)))
        self.assert_wrong(
            f"request 'r0' has 2 rows and a token_idx of {1 << 62}; batches",
            path,
            lambda t: t.request("r0"),
        )
        self.assertEqual(len(self.open(path).read()), 2)

    def test_wrong_use(self):
        trace = self.open(self.write(META))
        self.assertEqual((trace.requests(), len(trace.read()), list(trace.batches())), ([], 0, []))
        with self.assertRaisesRegex(ValueError, "rows is 0"):
            trace.batches(rows=0)
        with self.assertRaisesRegex(ValueError, "num_experts is 0"):
            moetrace.open(trace.path, num_experts=0)
        trace.close()
        with self.assertRaisesRegex(moetrace.ReadError, "is closed; open it again"):
            trace.requests()

    def test_iterating_needs_no_memory_for_the_file(self):
        path = self.write(META, *[json.dumps(route(n)).encode() for n in range(300_000)])  # 40 MB
        list(self.open(self.write(META, route())).batches())
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.assertEqual(sum(len(batch) for batch in self.open(path).batches(rows=1000)), 300_000)
        self.assertLess(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, 8 << 10, "KiB")

    def test_data_frames(self):
        trace = self.open(self.write(META, route(0), route(1, 2, (None, 7), (None, 1), request=4)))
        for name, use in (("pandas", trace.to_pandas), ("pyarrow", trace.to_arrow)):
            with self.subTest(name):
                if importlib.util.find_spec(name) is None:
                    with self.assertRaisesRegex(
                        moetrace.ReadError, f"{name} is not installed; pip install {name}$"
                    ):
                        use()
                    self.skipTest(f"{name} is not installed")
                table = use()
                columns = table.to_dict("list") if name == "pandas" else table.to_pydict()
                self.assertEqual(
                    (columns["req_id"], columns["request"], columns["layer"]),
                    (["r0", "r4"], [0, 4], [0, 2]),
                )
                ids = (
                    [columns["expert_0"], columns["expert_1"]]
                    if name == "pandas"
                    else columns["topk_ids"]
                )
                self.assertEqual(ids, [[3, -1], [0, 7]] if name == "pandas" else [[3, 0], [-1, 7]])


if __name__ == "__main__":
    unittest.main(verbosity=2)
