"""A trace with Arrow rows as JSON Lines: what the collector would have written without them.

Reads the rows file by the Arrow format's own description and shares no code with the programs that
write and read it. `merged(path)` gives the lines; `Wrong` says what contradicts FORMAT.md.
"""

import json
import math
import pathlib
import struct

import lz4.frame
import numpy as np
import xxhash
import zstandard
from two_files import beside, last_rows_line

SCHEMA, RECORD_BATCH = 1, 3
INT, FLOAT, FIXED_SIZE_LIST = 2, 3, 16


class Wrong(Exception):
    """The fault, with the byte of its message."""


class Table:
    """A FlatBuffers table."""

    def __init__(self, data, at):
        self.data, self.at = data, at
        self.vtable = at - struct.unpack_from("<i", data, at)[0]
        self.size = struct.unpack_from("<H", data, self.vtable)[0]

    def place(self, number):
        slot = 4 + 2 * number
        offset = (
            struct.unpack_from("<H", self.data, self.vtable + slot)[0] if slot < self.size else 0
        )
        return self.at + offset if offset else None

    def number(self, number, kind, default=0):
        at = self.place(number)
        return default if at is None else struct.unpack_from("<" + kind, self.data, at)[0]

    def follow(self, number):
        at = self.place(number)
        return None if at is None else at + struct.unpack_from("<I", self.data, at)[0]

    def table(self, number):
        at = self.follow(number)
        return None if at is None else Table(self.data, at)

    def text(self, number):
        at = self.follow(number)
        size = struct.unpack_from("<I", self.data, at)[0]
        return self.data[at + 4 : at + 4 + size].decode()

    def tables(self, number):
        at = self.follow(number)
        if at is None:
            return []
        count = struct.unpack_from("<I", self.data, at)[0]
        places = [at + 4 + 4 * n for n in range(count)]
        return [Table(self.data, p + struct.unpack_from("<I", self.data, p)[0]) for p in places]

    def pairs(self, number):
        """A vector of structs of two int64."""
        at = self.follow(number)
        count = struct.unpack_from("<I", self.data, at)[0]
        return [struct.unpack_from("<qq", self.data, at + 4 + 16 * n) for n in range(count)]


def texts(table, number):
    return {entry.text(0): entry.text(1) for entry in table.tables(number)}


class Message:
    def __init__(self, data, at):
        continuation, length = struct.unpack_from("<II", data, at)
        if continuation != 0xFFFFFFFF or length % 8 or at + 8 + length > len(data):
            raise Wrong(f"byte {at}: no message")
        metadata = data[at + 8 : at + 8 + length]
        root = Table(metadata, struct.unpack_from("<I", metadata)[0])
        if root.number(0, "h") != 4:
            raise Wrong(f"byte {at}: not metadata version V5")
        self.kind, self.header = root.number(1, "B"), root.table(2)
        self.metadata = texts(root, 4)
        begin = at + 8 + length
        self.end = begin + root.number(3, "q")
        if self.end > len(data):
            raise Wrong(f"byte {at}: a cut message")
        self.body = data[begin : self.end]


def dtype_of(field):
    kind, definition = field.number(2, "B"), field.table(3)
    if kind == INT:
        bits = definition.number(0, "i")
        return np.dtype(f"<{'i' if definition.number(1, 'B') else 'u'}{bits // 8}")
    if kind == FLOAT:
        return np.dtype("<f4" if definition.number(0, "h") == 1 else "<f2")
    raise Wrong(f"unknown type {kind}")


def decoded(body, place, codec):
    offset, length = place
    data = body[offset : offset + length]
    if codec is None or not data:
        return data
    size = struct.unpack_from("<q", data)[0]
    if size == -1:
        return data[8:]
    unpacked = (
        zstandard.ZstdDecompressor().decompress(data[8:], max_output_size=size)
        if codec == 1
        else lz4.frame.decompress(data[8:])
    )
    if len(unpacked) != size:
        raise Wrong("a buffer of another length than it says")
    return unpacked


def columns_of(message, fields):
    """{name: (values, valid or None)}; a list's values are [rows, size]."""
    header = message.header
    rows = header.number(0, "q")
    nodes, buffers = iter(header.pairs(1)), iter(header.pairs(2))
    compression = header.table(3)
    codec = None if compression is None else compression.number(0, "b")

    def flat(dtype, count):
        length, nulls = next(nodes)
        validity = decoded(message.body, next(buffers), codec)
        values = np.frombuffer(decoded(message.body, next(buffers), codec), dtype)
        if length != count or len(values) != count:
            raise Wrong("a column of another length than its batch")
        valid = None
        if nulls:
            bits = np.unpackbits(np.frombuffer(validity, np.uint8), bitorder="little")[:count]
            valid = bits.astype(bool)
            if count - int(valid.sum()) != nulls:
                raise Wrong("another number of nulls than the validity says")
        return values, valid

    columns = {}
    for field in fields:
        name = field.text(0)
        if field.number(2, "B") != FIXED_SIZE_LIST:
            columns[name] = flat(dtype_of(field), rows)
            continue
        size = field.table(3).number(0, "i")
        if next(nodes) != (rows, 0) or next(buffers)[1] != 0:
            raise Wrong(f"{name}: a list that is null")
        values, valid = flat(dtype_of(field.tables(5)[0]), rows * size)
        columns[name] = (
            values.reshape(rows, size),
            None if valid is None else valid.reshape(rows, size),
        )
    return rows, columns


def listed(column):
    """Python values, None for null."""
    values, valid = column
    plain = values.tolist()
    if valid is None:
        return plain
    if values.ndim == 1:
        return [v if ok else None for v, ok in zip(plain, valid, strict=True)]
    return [
        [v if ok else None for v, ok in zip(row, oks, strict=True)]
        for row, oks in zip(plain, valid.tolist(), strict=True)
    ]


class RowsFile:
    """The rows of a file, as dicts with the keys of a route line, without `req_id`."""

    def __init__(self, path, length=None):
        self.data = path.read_bytes()[:length]
        self.schema = Message(self.data, 0)
        if self.schema.kind != SCHEMA:
            raise Wrong("byte 0: no schema")
        self.fields = self.schema.header.tables(1)
        self.metadata = texts(self.schema.header, 2)
        self.batches = 0

    def rows(self, top_k):
        """`top_k`: of a layer."""
        at, next_seq, delivered = self.schema.end, None, None
        while at < len(self.data):
            message = Message(self.data, at)
            if message.kind != RECORD_BATCH:
                raise Wrong(f"byte {at}: no record batch")
            said = message.metadata
            if f"{xxhash.xxh3_64_intdigest(message.body):016x}" != said["moetrace.xxh3"]:
                raise Wrong(f"byte {at}: a wrong checksum")
            seq = int(said["moetrace.first_seq"])
            if next_seq is not None and seq < next_seq:
                raise Wrong(f"byte {at}: a batch that begins in the one before")
            count, columns = columns_of(message, self.fields)
            if delivered is not None and int(said["moetrace.delivered"]) != delivered + count:
                raise Wrong(f"byte {at}: wrong delivered rows")
            delivered = int(said["moetrace.delivered"])
            names = list(columns)
            for values in zip(*(listed(columns[name]) for name in names), strict=True):
                row = dict(zip(names, values, strict=True))
                seq += row.pop("skipped")
                k = top_k(row["layer"])
                row["topk_ids"] = row["topk_ids"][:k]
                row["topk_weights"] = row.get("topk_weights", [None] * k)[:k]
                if any(w is not None and not math.isfinite(w) for w in row["topk_weights"]):
                    raise Wrong(f"byte {at}: a weight that is not finite")
                yield {**row, "seq": seq}
                seq += 1
            next_seq = int(said["moetrace.next_seq"])
            if seq > next_seq:
                raise Wrong(f"byte {at}: a row beyond its batch")
            self.batches += 1
            at = message.end


def merged(path):
    """The lines of a trace, as text, with `route` lines in place of the rows file."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    meta = lines[0]
    where = meta.pop("rows")
    part = lines[1].get("part", 1) if len(lines) > 1 else 1
    last = last_rows_line(path)
    rows_path = beside(path)
    if not rows_path.exists():
        rows_path = path.parent / where["file"]
    yield json.dumps(meta)
    if last is None:
        yield from (json.dumps(without_place(line)) for line in lines[1:])
        return
    if rows_path.stat().st_size < last["bytes"]:
        raise Wrong(f"the rows file is shorter than {last['bytes']} bytes")
    file = RowsFile(rows_path, last["bytes"])
    if (file.metadata["moetrace.trace_id"], file.metadata["moetrace.part"]) != (
        meta["trace_id"],
        str(part),
    ):
        raise Wrong("the rows file belongs to another part")
    top_k = {layer["layer"]: layer["top_k"] for layer in meta.get("layers") or []}
    rows = file.rows(lambda layer: top_k.get(layer) or meta["top_k"])
    names, row, delivered = {}, next(rows, None), 0
    first_delivered = lines[1].get("delivered_total", 0) if lines[1]["type"] != "step" else 0
    for line in lines[1:]:
        place = line["seq"] if line["type"] == "rows" else line["at_seq"]
        while row is not None and row["seq"] < place:
            request = row["request"]
            yield json.dumps(
                {
                    "type": "route",
                    "req_id": names.get(request),
                    "token_idx": row["token_idx"],
                    "layer": row["layer"],
                    "topk_ids": row["topk_ids"],
                    "topk_weights": row["topk_weights"],
                    "request": request,
                    "step": row["step"],
                    "seq": row["seq"],
                }
            )
            delivered += 1
            row = next(rows, None)
        if line["type"] == "rows":
            if line["delivered_total"] != first_delivered + delivered:
                raise Wrong(f"seq {place}: a rows line with wrong delivered_total")
            continue
        if line["type"] == "request":
            names[line["request"]] = line["req_id"]
        yield json.dumps(without_place(line))
    if row is not None:
        raise Wrong(f"row {row['seq']} has no place among the lines")
    if file.batches != last["batches"]:
        raise Wrong(f"{file.batches} batches where the rows line says {last['batches']}")


def without_place(line):
    return {key: value for key, value in line.items() if key != "at_seq"}


def write_merged(path, to):
    pathlib.Path(to).write_text("".join(line + "\n" for line in merged(path)))
