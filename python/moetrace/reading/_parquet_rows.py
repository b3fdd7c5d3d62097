"""Rows as Arrow (trace/FORMAT.md) to the columns of a Parquet file, and back."""

from __future__ import annotations

import functools
import json
import pathlib
from typing import Any, Iterator, Optional

from ..errors import ReadError
from . import _reader_library

# The reader takes this many rows in a batch, and 65,536 batches to a `rows` line.
BATCH_ROWS = 1 << 18
ROWS_LINE = b'{"type":"rows"'
NUMBERS = ("request", "token_idx", "step", "layer")


@functools.cache
def pyarrow() -> Any:
    """The module. ReadError if it is not installed."""
    try:
        import pyarrow as module
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError:
        raise ReadError(
            "moetrace.parquet: needs pyarrow, which is not installed; pip install pyarrow"
        ) from None
    return module


def read_head(lines: pathlib.Path) -> dict[str, Any]:
    """The meta line."""
    with open(lines, "rb") as file:
        try:
            meta = json.loads(file.readline())
        except ValueError:
            meta = None
    if not isinstance(meta, dict):
        raise ReadError(f"{lines}: not a trace: its first line is not a JSON object; give a trace")
    return meta


class _Part:
    """What the lines beside a file of rows say of it."""

    def __init__(self, lines: pathlib.Path) -> None:
        self.lines = lines
        self.meta = read_head(lines)
        if self.meta.get("rows") is None:
            raise ReadError(
                f"{lines}: says nothing of rows in another file; give the trace's own lines"
            )
        with open(lines, "rb") as file:
            file.readline()
            second = file.readline()
        start = (
            json.loads(second) if second.startswith((b'{"type":"part"', b'{"type":"base"')) else {}
        )
        self.number = start.get("part", 1)
        self.first_seq = start.get("seq", 0)
        self.delivered_before = start.get("delivered_total", 0)
        self.last = self._last_rows_line()
        self.delivered = self.last["delivered_total"] if self.last else self.delivered_before

    def _last_rows_line(self) -> Optional[dict[str, Any]]:
        last = None
        with open(self.lines, "rb") as file:
            for line in file:
                if line.startswith(ROWS_LINE) and line.endswith(b"\n"):
                    last = line
        return json.loads(last) if last else None

    def wrong(self, path: pathlib.Path, why: str) -> ReadError:
        return ReadError(f"{path}: {why}; see what is wrong: moetrace verify {self.lines}")

    def schema(self, *, seq: bool) -> Any:
        """Of rows as Arrow, or with `seq` in place of `skipped`, and with weights as float32 in
        any case: few programs know float16."""
        pa, rows, meta = pyarrow(), self.meta["rows"], self.meta
        wide = rows.get("wide", False)
        unsigned, signed = (pa.uint64(), pa.int64()) if wide else (pa.uint32(), pa.int32())
        ids = pa.uint16() if meta["num_experts"] > 256 else pa.uint8()
        fields = [
            pa.field("request", unsigned),
            pa.field("token_idx", signed),
            pa.field("step", unsigned, nullable=False),
            pa.field("layer", pa.uint16(), nullable=False),
            pa.field("topk_ids", pa.list_(pa.field("item", ids), meta["top_k"]), nullable=False),
        ]
        if rows["weights"] is not None:
            weight = pa.float16() if rows["weights"] == "float16" and not seq else pa.float32()
            weights = pa.list_(pa.field("item", weight), meta["top_k"])
            fields.append(pa.field("topk_weights", weights, nullable=False))
        if seq:
            fields.insert(0, pa.field("seq", pa.int64(), nullable=False))
        else:
            fields.append(pa.field("skipped", pa.uint32(), nullable=False))
        return pa.schema(
            fields,
            metadata={
                "moetrace.schema": "moetrace/1",
                "moetrace.trace_id": meta["trace_id"],
                "moetrace.part": str(self.number),
            },
        )


def _columns(batch: Any, schema: Any, more: dict[str, Any]) -> Any:
    """The batch's columns in the types of `schema`."""
    pa = pyarrow()
    arrays = []
    for field in schema:
        column = more.get(field.name)
        if column is None:
            column = batch[field.name]
        if pa.types.is_fixed_size_list(field.type):
            items = column.flatten().cast(field.type.value_type)
            column = pa.FixedSizeListArray.from_arrays(items, type=field.type)
        arrays.append(column.cast(field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _checksum(body: Any) -> str:
    return f"{_reader_library.load().moetrace_reader_checksum(body.address, body.size):016x}"


def parquet_batches(
    rows: pathlib.Path, lines: pathlib.Path, group_rows: int
) -> tuple[Any, Iterator[Any]]:
    """The schema of the Parquet file, and its rows in batches of about `group_rows`."""
    part = _Part(lines)
    schema = part.schema(seq=True)
    return schema, _grouped(_numbered(rows, part, schema), group_rows)


def _numbered(path: pathlib.Path, part: _Part, schema: Any) -> Iterator[Any]:
    """Each batch that the lines count, checked, with `seq`."""
    pa, np = pyarrow(), _reader_library.numpy()
    if part.last is None:
        return
    wanted, seq = part.last["batches"], part.first_seq
    delivered = part.delivered_before
    with pa.OSFile(str(path)) as twice, pa.ipc.open_stream(str(path)) as stream:
        messages = pa.ipc.MessageReader.open_stream(twice)
        messages.read_next_message()  # the schema
        found = stream.iter_batches_with_custom_metadata()
        for number in range(1, wanted + 1):
            try:
                batch, said = next(found)
                good = _checksum(messages.read_next_message().body).encode()
                if good != said["moetrace.xxh3"]:
                    raise OSError("its checksum is wrong")
            except (OSError, pa.ArrowInvalid, StopIteration) as error:
                why = str(error) or "the file ends before it"
                raise part.wrong(path, f"batch {number} is damaged: {why}") from None
            delivered += len(batch)
            first_seq = int(said["moetrace.first_seq"])
            if first_seq < seq or int(said["moetrace.delivered"]) != delivered:
                raise part.wrong(path, f"batch {number} does not follow the one before it")
            skipped = np.asarray(batch["skipped"]).astype("int64")
            numbers = first_seq + np.arange(len(batch)) + np.cumsum(skipped)
            seq = int(said["moetrace.next_seq"])
            yield _columns(batch, schema, {"seq": pa.array(numbers)})
        if next(found, None) is not None:
            raise part.wrong(path, "has more batches than its last rows line says")
    if delivered != part.delivered:
        raise part.wrong(
            path, f"has {delivered} rows, but its last rows line says {part.delivered}"
        )


def _grouped(batches: Iterator[Any], rows: int) -> Iterator[Any]:
    pa, waiting, count = pyarrow(), [], 0
    for batch in batches:
        waiting.append(batch)
        count += len(batch)
        if count >= rows:
            yield pa.concat_batches(waiting)
            waiting, count = [], 0
    if waiting:
        yield pa.concat_batches(waiting)


def arrow_batches(
    parquet: pathlib.Path, lines: pathlib.Path, rows: pathlib.Path, new_lines: pathlib.Path
) -> None:
    """Writes rows as Arrow, and their lines, from a Parquet file and its lines."""
    pa, np = pyarrow(), _reader_library.numpy()
    part = _Part(lines)
    schema = part.schema(seq=False)
    next_seq, delivered, batches = part.first_seq, part.delivered_before, 0
    try:
        source = pa.parquet.ParquetFile(parquet)
    except (pa.ArrowInvalid, ValueError) as error:
        raise ReadError(f"{parquet}: not Parquet: {error}; give another file") from None
    known = (source.schema_arrow.metadata or {}).get(b"moetrace.trace_id", b"").decode()
    if known and known != part.meta["trace_id"]:
        raise ReadError(
            f"{parquet}: its rows are of trace {known}, the lines of another; put the "
            "two files of one trace into one folder"
        )
    with source, open(rows, "wb") as sink:
        writer = pa.ipc.new_stream(sink, schema)
        for batch in source.iter_batches(BATCH_ROWS):
            seq = np.asarray(batch["seq"]).astype("int64")
            skipped = seq - np.concatenate([[next_seq], seq[:-1] + 1])
            if len(seq) and (skipped.min() < 0 or skipped.max() >= 1 << 32):
                raise part.wrong(parquet, "its rows are not in the order of seq")
            try:
                batch = _columns(batch, schema, {"skipped": pa.array(skipped)})
            except (KeyError, pa.ArrowInvalid) as error:
                raise part.wrong(
                    parquet, f"its columns are not those of a trace: {error}"
                ) from None
            first_seq, next_seq = next_seq, int(seq[-1]) + 1
            delivered += len(seq)
            batches += 1
            writer.write_batch(
                batch,
                custom_metadata={
                    "moetrace.first_seq": str(first_seq),
                    "moetrace.next_seq": str(next_seq),
                    "moetrace.delivered": str(delivered),
                    "moetrace.xxh3": _checksum(pa.ipc.read_message(batch.serialize()).body),
                },
            )
        if batches == 0:
            sink.write(schema.serialize())  # which the writer leaves to the first batch
        size = sink.tell()  # no end marker follows, as in the collector's files
    if delivered != part.delivered:
        raise part.wrong(parquet, f"has {delivered} rows, but the lines count {part.delivered}")
    last = dict(part.last, bytes=size, batches=batches) if part.last else None
    _copy_lines(lines, new_lines, last)


def _copy_lines(lines: pathlib.Path, to: pathlib.Path, last: Optional[dict[str, Any]]) -> None:
    """With one `rows` line, before the end line."""
    rows_line = json.dumps(last, separators=(",", ":")).encode() + b"\n" if last else b""
    with open(lines, "rb") as source, open(to, "wb") as target:
        for line in source:
            if line.startswith(ROWS_LINE):
                continue
            if line.startswith(b'{"type":"end"'):
                target.write(rows_line)
                rows_line = b""
            target.write(line)
        target.write(rows_line)
