"""moetrace.open: the lines other than rows, and the golden lines, field by field as Python's json
reads them.

MOETRACE_LIBRARY, MOETRACE_READER_LIBRARY, MOETRACED and MOETRACE_CLI name the libraries and the
programs; the package is on PYTHONPATH.
"""

import itertools
import json
import pathlib
import unittest

import moetrace
import numpy
from reading_case import META, Case, packings, route

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "trace/testdata/golden"
TYPES = {
    "base": moetrace.BaseLine,
    "part": moetrace.BaseLine,
    "request": moetrace.RequestLine,
    "step": moetrace.StepLine,
    "request_end": moetrace.RequestEndLine,
    "loss": moetrace.LossLine,
    "torn": moetrace.TornLine,
    "control": moetrace.ControlLine,
    "end": moetrace.EndLine,
}
# Keys of a line that its tuple does not have: where they are read instead.
ELSEWHERE = {"request": {"req_id", "at_seq"}, "request_end": {"req_id", "status"}}


def golden(*patterns):
    """The golden lines of files with these names, as they stand there."""
    files = sorted(path for pattern in patterns for path in GOLDEN.glob(pattern))
    return [line.encode() for path in files for line in path.read_text().splitlines()]


def oracle(text, number):
    """What `Trace.lines` should give for a line: its type, and its keys as the json module reads
    them."""
    line = json.loads(text)
    kind = line.pop("type")
    line.update(line.pop("cost", {}))
    if "ring" in line:
        ring = line.pop("ring")
        line.update(ring_slots=ring["slots"], high_water=ring["high_water"])
    for key in ELSEWHERE.get(kind, ()):
        line.pop(key, None)
    if kind == "control":
        line["layers"] = tuple(line["layers"])
    fields = dict.fromkeys(TYPES[kind]._fields)
    assert set(line) <= set(fields), (kind, set(line) - set(fields))  # no key is dropped
    return TYPES[kind](**{**fields, **line, "line": number})


class Golden(Case):
    META = golden("meta.jsonl")[0]
    OTHERS = golden(*(f"{kind}*.jsonl" for kind in TYPES))

    def trace(self, *lines):
        return self.open(self.write(self.META, *lines))

    def test_every_line_other_than_rows(self):
        self.assertEqual({json.loads(line)["type"] for line in self.OTHERS}, set(TYPES))
        trace = self.trace(*self.OTHERS)
        lines = list(trace.lines())
        self.assertEqual(
            lines, [oracle(text, number) for number, text in enumerate(self.OTHERS, 2)]
        )
        for type_ in set(TYPES.values()):
            self.assertEqual(
                list(trace.lines(type_)), [line for line in lines if type(line) is type_]
            )

    def test_names_and_statuses_are_the_requests(self):
        trace = self.trace(*golden("request.jsonl"), *golden("request_end.jsonl"))
        begun, ended = (
            list(map(json.loads, golden(name))) for name in ("request.jsonl", "request_end.jsonl")
        )
        for request, begin, end in zip(trace.requests(), begun, ended):
            expected = {
                key: value
                for key, value in {**begin, **end}.items()
                if key not in ("type", "event", "request")
            }
            self.assertEqual({key: getattr(request, key) for key in expected}, expected)
            self.assertEqual(request.number, begin["request"])

    def test_meta(self):
        for text in golden("meta*.jsonl"):
            trace = self.open(self.write(text))
            self.assertEqual(trace.meta, json.loads(text))
            self.assertEqual(
                (trace.top_k, trace.num_experts),
                (json.loads(text)["top_k"], json.loads(text)["num_experts"]),
            )

    def test_end(self):
        for text in golden("end*.jsonl"):
            line = json.loads(text)
            trace = self.trace(text)
            self.assertEqual(trace.end, line)
            cost = line.get("cost", {"announce_ns": None})
            self.assertEqual(
                trace.cost, None if cost["announce_ns"] is None else tuple(cost.values())
            )

    def test_rows(self):
        rows = list(map(json.loads, golden("route.jsonl")))
        batch = self.trace(*golden("route.jsonl")).read()
        for name in ("req_id", "request", "step", "token_idx", "layer", "seq", "topk_ids"):
            expected = [
                json.loads(json.dumps(row[name]).replace("null", "-1"))
                if name != "req_id"
                else row[name]
                for row in rows
            ]
            self.assertEqual(getattr(batch, name).tolist(), expected, name)
        numpy.testing.assert_array_equal(
            batch.topk_weights,
            numpy.array(
                [[float("nan") if w is None else w for w in row["topk_weights"]] for row in rows],
                "float32",
            ),
        )

    def test_public_log(self):
        lines = golden("public-log.jsonl")
        trace = self.open(self.write(*lines))
        rows = list(map(json.loads, lines[1:]))
        self.assertEqual(trace.meta, json.loads(lines[0]))
        batch = trace.read()
        self.assertEqual(batch.topk_ids.tolist(), [row["topk_ids"] for row in rows])
        self.assertEqual(batch.req_id.tolist(), [row.get("req_id") for row in rows])
        numpy.testing.assert_array_equal(
            batch.topk_weights[0], numpy.array(rows[0]["topk_weights"], "float32")
        )
        self.assertEqual(
            numpy.isnan(batch.topk_weights).tolist(),
            [[False] * 4, [True, True, False, True], [True] * 4],
        )


def step(number, layers=2):
    return {
        "type": "step",
        "step": number,
        "rows": 3 + number % 5,
        "layers": layers,
        "time_ns": 1000 * number,
        "seq": 0,
        "dropped_total": number // 7,
        "event": 2 * number,
        "attempted_total": 9 * number,
        "delivered_total": 8 * number,
        "filtered_total": 5,
        "torn_total": 6,
        "event_lost_total": 7,
    }


class Written(Case):
    def test_steps_are_columns(self):
        steps = [step(number) for number in range(10_000)]  # more than one buffer has room for
        trace = self.open(
            self.write(
                META, *itertools.chain.from_iterable((line, route(line["step"])) for line in steps)
            )
        )
        columns = trace.steps()
        self.assertEqual(
            (len(columns), repr(columns)), (10_000, "<moetrace.Steps: 10000 steps, 50000 rows>")
        )
        for name, column in columns.columns().items():
            self.assertEqual(
                (column.dtype, column.tolist()), ("int64", [line[name] for line in steps]), name
            )
        self.assertEqual(len(trace.read()), 10_000)

    def test_what_an_old_line_does_not_give(self):
        line = {
            key: value
            for key, value in step(4).items()
            if not key.endswith("_total") or key == "dropped_total"
        }
        trace = self.open(self.write(META, line, {"type": "torn", "first_seq": None, "count": 1}))
        self.assertEqual(
            [
                (found.dropped_total, found.delivered_total)
                for found in trace.lines(moetrace.StepLine)
            ],
            [(0, None)],
        )
        self.assertEqual(
            (trace.steps().delivered_total.tolist(), trace.torn()),
            ([-1], [moetrace.TornLine(3, None, 1)]),
        )
        self.assertEqual(
            (trace.losses(), trace.controls(), trace.end, trace.cost), ([], [], None, None)
        )

    def test_losses_torn_and_controls(self):
        lines = golden("loss.jsonl", "torn.jsonl", "control.jsonl")
        trace = self.open(self.write({**META, "num_layers": 256}, *lines))
        expected = [oracle(text, number) for number, text in enumerate(lines, 2)]
        self.assertEqual(
            trace.losses() + trace.torn() + trace.controls(),
            sorted(
                expected,
                key=lambda line: (
                    list(TYPES.values()).index(type(line))
                    if type(line) is not moetrace.ControlLine
                    else 99
                ),
            ),
        )

    def test_a_file_that_grows_and_compressed_ones(self):
        torn = {"type": "torn", "first_seq": 1, "count": 2}
        path = self.write(META, torn)
        trace = self.open(path)
        self.assertEqual(len(trace.torn()), 1)
        path.write_bytes(path.read_bytes() + json.dumps(torn).encode())  # without a newline
        self.assertEqual(trace.torn(), [moetrace.TornLine(2, 1, 2), moetrace.TornLine(3, 1, 2)])
        for name, packed in packings(path.read_bytes()):
            compressed = self.folder / name
            compressed.write_bytes(packed)
            self.assertEqual(self.open(compressed).torn(), trace.torn())

    def test_lines_that_are_wrong(self):
        path = self.write(
            META,
            step(0),
            {"type": "control", "layers": [0], "sample_every": 1, "from_step": 1, "enabled": 1},
            step(1),
        )
        self.assert_wrong(
            'line 3: "enabled" must be true, false or null, not 1',
            path,
            lambda trace: trace.steps(),
        )
        lines = self.open(path).lines()
        self.assertEqual(next(lines).step, 0)
        with self.assertRaisesRegex(moetrace.ReadError, "line 3: "):
            next(lines)
        self.assert_wrong(
            "line 2: a number is 2\\^63 or larger",
            self.write(META, {"type": "torn", "first_seq": 1 << 63, "count": 1}),
            lambda trace: trace.torn(),
        )

    def test_wrong_use(self):
        trace = self.open(self.write(META))
        self.assertEqual((len(trace.steps()), list(trace.lines())), (0, []))
        with self.assertRaisesRegex(
            ValueError, "<class 'int'> is not a type of lines; use StepLine, RequestLine"
        ):
            trace.lines(int)


if __name__ == "__main__":
    unittest.main(verbosity=2)
