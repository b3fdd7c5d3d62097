#!/usr/bin/python3
"""Others read a rows file unmodified, and find the rows that moetrace.open finds: pyarrow, polars,
and DuckDB through pyarrow's reader. Exit code 77 without them.
"""

import unittest

from arrow_python import ROOT  # isort: skip  (first: it chooses the python)
import duckdb
import moetrace
import numpy
import polars
import pyarrow
import pyarrow.ipc

NUMBERS = ("request", "token_idx", "step", "layer")
ROWS = ROOT / "trace/testdata/rows"


def seq_of(path):
    """The rows' numbers, from the batches' own metadata, as FORMAT.md says."""
    numbers = []
    with pyarrow.ipc.open_stream(path) as stream:
        for batch, metadata in stream.iter_batches_with_custom_metadata():
            seq = int(metadata[b"moetrace.first_seq"])
            for skipped in batch["skipped"].to_pylist():
                seq += skipped
                numbers.append(seq)
                seq += 1
    return numbers


class Oracles(unittest.TestCase):
    """`check` is for any trace in two files that has ended."""

    def check(self, lines, rows):
        with moetrace.open(lines) as trace:
            ours = trace.read()
        with pyarrow.ipc.open_stream(rows) as stream:
            table = stream.read_all()
        table.validate(full=True)
        self.assertEqual(seq_of(rows), ours.seq.tolist())
        self.compare(ours, {name: table[name].to_pylist() for name in table.column_names})
        self.check_polars(ours, rows)
        self.check_duckdb(ours, rows)

    def compare(self, ours, columns):
        for name in NUMBERS:
            found = [-1 if value is None else value for value in columns[name]]
            self.assertEqual(found, getattr(ours, name).tolist(), name)
        ids = [[-1 if i is None else i for i in row] for row in columns["topk_ids"]]
        self.assertEqual(ids, ours.topk_ids.tolist())
        if "topk_weights" in columns:
            weights = numpy.array(
                [[numpy.nan if w is None else w for w in row] for row in columns["topk_weights"]],
                "float32",
            )
            numpy.testing.assert_array_equal(
                weights.reshape(ours.topk_weights.shape), ours.topk_weights
            )

    def check_polars(self, ours, rows):
        frame = polars.read_ipc_stream(rows)
        self.compare(ours, {name: frame[name].to_list() for name in frame.columns})

    def check_duckdb(self, ours, rows):
        """DuckDB has no float16."""
        with pyarrow.ipc.open_stream(rows) as stream:
            half = any(
                pyarrow.types.is_float16(getattr(field.type, "value_type", field.type))
                for field in stream.schema
            )
            reader = pyarrow.RecordBatchReader.from_batches(stream.schema, stream)
            if half:
                names = [name for name in stream.schema.names if name != "topk_weights"]
                table = pyarrow.Table.from_batches(reader, stream.schema).select(names)
                reader = table.to_reader()
            columns = duckdb.sql("select * from reader").to_arrow_table()
        self.compare(ours, {name: columns[name].to_pylist() for name in columns.column_names})

    def test_golden_files(self):
        for name in ("trace", "half", "ids"):
            with self.subTest(name):
                self.check(ROWS / f"{name}.jsonl", str(ROWS / f"{name}.arrows"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
