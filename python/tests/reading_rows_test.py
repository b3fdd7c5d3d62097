#!/usr/bin/python3
"""moetrace.open of traces whose rows are in a file of their own: the same arrays as from lines."""

import io
import json
import shutil
import unittest

import numpy
import reading_case

HERE = reading_case.pathlib.Path(__file__).resolve().parents[2]
ROWS = HERE / "trace/testdata/rows"
COLUMNS = ("request", "step", "token_idx", "layer", "seq", "topk_ids", "topk_weights")


class Rows(reading_case.Case):
    def copy(self, name, *extensions):
        """The two files, or one of them, in a folder where nothing else is."""
        folder = self.folder / str(next(self.numbers))
        folder.mkdir()
        for extension in extensions or ("jsonl", "arrows"):
            shutil.copy(ROWS / f"{name}.{extension}", folder)
        return folder / name

    def assert_same(self, batch, expected, weights=True):
        for name in COLUMNS[: None if weights else -1]:
            with self.subTest(column=name):
                found, wanted = getattr(batch, name), getattr(expected, name)
                self.assertEqual(found.dtype, wanted.dtype)
                numpy.testing.assert_array_equal(found, wanted)

    def test_same_as_from_lines(self):
        expected = self.open(ROWS / "one.jsonl")
        for name in ("trace", "half", "ids"):
            for extension in ("jsonl", "arrows"):
                trace = self.open(ROWS / f"{name}.{extension}")
                for rows in (1, 2, 5, 100):
                    batches = list(trace.batches(rows))
                    self.assertLessEqual(max(map(len, batches)), rows)
                    self.assertEqual(sum(map(len, batches)), 11)
                self.assert_same(trace.read(), expected.read(), weights=name != "ids")
                self.assertEqual(trace.requests(), expected.requests())
                numpy.testing.assert_array_equal(trace.experts(), expected.experts())
                self.assertEqual(trace.end, {**expected.end, "at_seq": 14})
                self.assertEqual(trace.steps().seq.tolist(), expected.steps().seq.tolist())
                self.assertEqual(
                    [line._replace(line=0) for line in trace.lines()],
                    [line._replace(line=0) for line in expected.lines()],
                )
                self.assertEqual(trace.read().req_id.tolist(), expected.read().req_id.tolist())

    def test_weights_that_are_not_stored(self):
        self.assertTrue(numpy.isnan(self.open(ROWS / "ids.jsonl").read().topk_weights).all())

    def test_one_request(self):
        expected = self.open(ROWS / "one.jsonl")
        for name in ("trace", "half"):
            trace = self.open(ROWS / f"{name}.jsonl")
            for which in ("r0", 'r"1', 0, 1):
                found, wanted = trace.request(which), expected.request(which)
                self.assertEqual(found.request, wanted.request)
                numpy.testing.assert_array_equal(found.ids, wanted.ids)
                numpy.testing.assert_array_equal(found.weights, wanted.weights)
                numpy.testing.assert_array_equal(found.recorded, wanted.recorded)

    def test_growing_files(self):
        path = self.copy("trace", "jsonl")
        lines = path.with_suffix(".jsonl").read_bytes().splitlines(True)
        rows = (ROWS / "trace.arrows").read_bytes()
        written = [n for n, line in enumerate(lines) if line.startswith(b'{"type":"rows"')]
        growing = path.with_suffix(".jsonl")
        path.with_suffix(".arrows").write_bytes(b"")
        growing.write_bytes(lines[0])
        trace = self.open(growing)
        self.assertEqual(len(trace.read()), 0)
        for n in written:
            said = json.loads(lines[n])
            path.with_suffix(".arrows").write_bytes(rows[: said["bytes"] + 9])  # and more to come
            growing.write_bytes(b"".join(lines[: n + 1]))
            self.assertEqual(len(trace.read()), said["delivered_total"])
            self.assertEqual(int(trace.experts().sum()), 2 * said["delivered_total"] - (n > 6))
        self.assertEqual(sum(info.rows for info in trace.requests()), 10)  # one belongs to none

    def test_compressed(self):
        path = self.copy("trace")
        expected = self.open(ROWS / "one.jsonl").read()
        for name, packed in reading_case.packings(path.with_suffix(".arrows").read_bytes()):
            packed_path = path.with_suffix(".arrows." + {"gzip": "gz", "zstd": "zst"}[name])
            packed_path.write_bytes(packed)
            path.with_suffix(".arrows").unlink(missing_ok=True)
            self.assert_same(self.open(path.with_suffix(".jsonl")).read(), expected)
            self.assert_same(self.open(packed_path).read(), expected)
            packed_path.unlink()

    def test_file_objects(self):
        with open(ROWS / "trace.jsonl", "rb") as file:
            self.assertEqual(len(self.open(file).read()), 11)
        with self.assertLogs("moetrace", "WARNING") as logs:
            trace = self.open(io.BytesIO((ROWS / "trace.jsonl").read_bytes()))
        self.assertRegex(logs.output[0], "its rows are in trace.arrows, which is not there")
        self.assertEqual(len(trace.steps()), 3)

    def test_without_the_rows(self):
        with self.assertLogs("moetrace", "WARNING") as logs:
            trace = self.open(self.copy("trace", "jsonl").with_suffix(".jsonl"))
        self.assertEqual(len(logs.output), 1)
        self.assertRegex(logs.output[0], "its rows are in trace.arrows, which is not there; put")
        self.assertEqual([info.req_id for info in trace.requests()], ["r0", 'r"1'])
        self.assertEqual([info.rows for info in trace.requests()], [None, None])
        self.assertEqual(len(trace.steps()), 3)
        self.assertEqual(trace.end["delivered"], 11)
        for use in (trace.read, trace.experts, lambda: trace.request(0)):
            with self.assertRaisesRegex(
                reading_case.moetrace.ReadError, "rows are in trace.arrows"
            ):
                use()

    def test_without_the_lines(self):
        with self.assertLogs("moetrace", "WARNING") as logs:
            trace = self.open(self.copy("trace", "arrows").with_suffix(".arrows"), num_experts=8)
        self.assertEqual(len(logs.output), 1)
        self.assertRegex(logs.output[0], "its lines should be in .*trace.jsonl, which is not there")
        expected = self.open(ROWS / "one.jsonl")
        self.assert_same(trace.read(), expected.read())
        self.assertEqual(int(trace.experts().sum()), 21)
        self.assertEqual(
            [(info.number, info.req_id) for info in trace.requests()], [(0, None), (1, None)]
        )
        self.assertEqual(trace.request(1).recorded.sum(), 3)
        self.assertIsNone(trace.end)
        with self.assertRaisesRegex(
            reading_case.moetrace.ReadError, "steps and totals are unknown"
        ):
            trace.steps()

    def test_damaged(self):
        path = self.copy("trace")
        rows = bytearray(path.with_suffix(".arrows").read_bytes())
        rows[-1] ^= 1
        path.with_suffix(".arrows").write_bytes(rows)
        trace = self.open(path.with_suffix(".jsonl"))
        came = []
        with self.assertRaisesRegex(
            reading_case.moetrace.ReadError,
            r"trace.arrows: byte \d+: the checksum of the batch is wrong: .*; copy the file again$",
        ):
            for batch in trace.batches(2):
                came.append(len(batch))
        self.assertEqual(sum(came), 9)

    def test_files_that_do_not_belong_together(self):
        path = self.copy("trace", "jsonl")
        shutil.copy(ROWS / "half.arrows", path.with_suffix(".arrows"))
        self.assert_wrong("its rows are not those of the lines", path.with_suffix(".jsonl"))
        lines = path.with_suffix(".jsonl").read_bytes()
        path.with_suffix(".jsonl").write_bytes(
            lines.replace(b'"trace.arrows"', b'"../trace.arrows"')
        )
        self.assert_wrong("must be the name of a file beside this one", path.with_suffix(".jsonl"))

    def test_published_lines_name_the_rows_file_too(self):
        meta = (ROWS / "trace.jsonl").read_bytes().splitlines()[0]
        live = reading_case.moetrace.reading.streaming.LiveTrace("t", meta, None)
        zeros = ("generation", "message", "attempted", "filtered", "dropped", "torn")
        header = dict.fromkeys(zeros, 0)
        lines = b"".join((ROWS / "trace.jsonl").read_bytes().splitlines(True)[1:])
        live.take("meta", {**header, "count": 13, "delivered": 0}, lines)
        route = next(
            line
            for line in (ROWS / "one.jsonl").read_bytes().splitlines(True)
            if b'"route"' in line
        )
        batch = live.take("route", {**header, "count": 1, "delivered": 1}, route)
        self.assertEqual(batch.topk_ids.tolist(), [[0, 1]])


if __name__ == "__main__":
    unittest.main(verbosity=2)
