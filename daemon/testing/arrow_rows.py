"""A rows file (trace/FORMAT.md, "Rows as Arrow") for check_trace.py, read with Python alone and the
libraries that Debian has of zstd, LZ4 and xxHash. Shares no code with the readers of moetrace.
"""

import array
import ctypes
import math
import struct

COLUMN_NAMES = ["request", "token_idx", "step", "layer", "topk_ids", "topk_weights", "skipped"]
SCHEMA, RECORD_BATCH = 1, 3
INT, FLOAT, LIST = 2, 3, 16
MOST_METADATA = 1 << 20


class Damaged(Exception):
    """The fault, with its byte."""


class Table:
    """A table of FlatBuffers. Fields by their numbers; None: absent."""

    def __init__(self, data, at):
        self.data, self.at = data, at
        self.vtable = at - struct.unpack_from("<i", data, at)[0]
        self.size = struct.unpack_from("<H", data, self.vtable)[0]

    @classmethod
    def root(cls, data):
        return cls(data, struct.unpack_from("<I", data)[0])

    def place(self, field):
        entry = 4 + 2 * field
        offset = (
            struct.unpack_from("<H", self.data, self.vtable + entry)[0] if entry < self.size else 0
        )
        return self.at + offset if offset else None

    def number(self, field, kind, absent=0):
        place = self.place(field)
        return absent if place is None else struct.unpack_from("<" + kind, self.data, place)[0]

    def target(self, field):
        place = self.place(field)
        return None if place is None else place + struct.unpack_from("<I", self.data, place)[0]

    def table(self, field):
        target = self.target(field)
        return None if target is None else Table(self.data, target)

    def text(self, field):
        at = self.target(field)
        size = struct.unpack_from("<I", self.data, at)[0]
        return self.data[at + 4 : at + 4 + size].decode()

    def tables(self, field):
        at = self.target(field)
        if at is None:
            return []
        slots = [at + 4 + 4 * n for n in range(struct.unpack_from("<I", self.data, at)[0])]
        return [Table(self.data, s + struct.unpack_from("<I", self.data, s)[0]) for s in slots]

    def pairs(self, field):
        """A vector of structs of two int64."""
        at = self.target(field)
        count = struct.unpack_from("<I", self.data, at)[0]
        numbers = struct.unpack_from(f"<{2 * count}q", self.data, at + 4)
        return list(zip(numbers[::2], numbers[1::2]))

    def texts(self, field):
        return {entry.text(0): entry.text(1) for entry in self.tables(field)}


def unpack_zstd(data, size):
    library = ctypes.CDLL("libzstd.so.1")
    library.ZSTD_decompress.restype = ctypes.c_size_t
    room = ctypes.create_string_buffer(size + 1)
    got = library.ZSTD_decompress(room, ctypes.c_size_t(size), data, ctypes.c_size_t(len(data)))
    if got != size:
        raise ValueError("zstd: not as long as it says")
    return room.raw[:size]


def unpack_lz4(data, size):
    library = ctypes.CDLL("liblz4.so.1")
    library.LZ4F_decompress.restype = ctypes.c_size_t
    context = ctypes.c_void_p()
    library.LZ4F_createDecompressionContext(ctypes.byref(context), 100)
    room = ctypes.create_string_buffer(size + 1)
    given, taken = ctypes.c_size_t(size), ctypes.c_size_t(len(data))
    left = library.LZ4F_decompress(
        context, room, ctypes.byref(given), data, ctypes.byref(taken), None
    )
    library.LZ4F_freeDecompressionContext(context)
    if left or given.value != size or taken.value != len(data):
        raise ValueError("LZ4: not as long as it says")
    return room.raw[:size]


def xxh3(data):
    library = ctypes.CDLL("libxxhash.so.0")
    library.XXH3_64bits.restype = ctypes.c_uint64
    return library.XXH3_64bits(data, ctypes.c_size_t(len(data)))


def column_type(field):
    kind, of = field.number(2, "B"), field.table(3)
    if kind == INT:
        return ("int" if of.number(1, "B") else "uint") + str(of.number(0, "i"))
    if kind == FLOAT:
        return {0: "float16", 1: "float32"}[of.number(0, "h")]
    if kind == LIST:
        [item] = field.tables(5)
        return (of.number(0, "i"), column_type(item))
    raise ValueError(f"a column of type {kind}")


class Rows:
    """keys: of the schema. types: by column. batches: of (keys, end byte, rows)."""

    CODES = {"uint8": "B", "uint16": "H", "uint32": "I", "uint64": "Q", "int32": "i", "int64": "q"}

    def __init__(self, path, upto):
        """The batches that end at byte `upto` or before."""
        with open(path, "rb") as file:
            self.data = file.read()
        self.at, self.upto = 0, upto
        try:
            message, _ = self.message(SCHEMA)
            schema = message.table(2)
            self.keys = schema.texts(2)
            self.types = {field.text(0): column_type(field) for field in schema.tables(1)}
            names = [name for name in COLUMN_NAMES if name in self.types]
            if list(self.types) != names or len(names) < len(COLUMN_NAMES) - 1:
                raise ValueError(f"its columns are {list(self.types)}")
            self.schema_end = self.at
            self.batches = []
            while self.at < upto:
                self.batches.append(self.batch())
        except (ValueError, KeyError, struct.error, IndexError, OSError) as error:
            raise Damaged(f"byte {self.at}: {error}") from None

    def message(self, kind):
        mark, size = struct.unpack_from("<II", self.data, self.at)
        if mark != 0xFFFFFFFF or size > MOST_METADATA or (8 + size) % 8:
            raise ValueError("no message begins here")
        message = Table.root(self.data[self.at + 8 : self.at + 8 + size])
        if (message.number(0, "h"), message.number(1, "B")) != (4, kind):
            raise ValueError("another message than expected")
        start = self.at + 8 + size
        body = self.data[start : start + message.number(3, "q")]
        if len(body) != message.number(3, "q") or len(body) % 8:
            raise ValueError("the message is cut")
        self.at = start + len(body)
        return message, body

    def batch(self):
        begin = self.at
        message, body = self.message(RECORD_BATCH)
        if self.at > self.upto:
            raise ValueError("the last rows line ends it inside of a message")
        keys = message.texts(4)
        if f"{xxh3(body):016x}" != keys["moetrace.xxh3"]:
            self.at = begin
            raise ValueError("the checksum is wrong")
        batch = message.table(2)
        codec = batch.table(3)
        unpack = None
        if codec is not None:
            unpack = unpack_zstd if codec.number(0, "b") else unpack_lz4
        nodes, buffers = iter(batch.pairs(1)), iter(batch.pairs(2))

        def stored(size):
            offset, length = next(buffers)
            part = body[offset : offset + length]
            if unpack and part:
                said = struct.unpack_from("<q", part)[0]
                part = part[8:] if said == -1 else unpack(part[8:], said)
            if len(part) < size:
                raise ValueError("a column is too short")
            return part[:size]

        def items(kind, nullable):
            count, nulls = next(nodes)
            valid = stored((count + 7) // 8 if nulls else 0)
            if kind.startswith("float"):
                width, code = (2, "e") if kind == "float16" else (4, "f")
                values = struct.unpack(f"<{count}{code}", stored(width * count))
            else:
                values = array.array(self.CODES[kind])
                values.frombytes(stored(values.itemsize * count))
            if not nulls:
                return list(values)
            if not nullable:
                raise ValueError("nulls where there may be none")
            found = [v if valid[n // 8] >> n % 8 & 1 else None for n, v in enumerate(values)]
            if found.count(None) != nulls:
                raise ValueError("other nulls than it says")
            return found

        columns = {}
        for name, kind in self.types.items():
            if isinstance(kind, tuple):
                next(nodes), stored(0)
                k, of = kind
                flat = items(of, True)
                columns[name] = [flat[n : n + k] for n in range(0, len(flat), k)]
            else:
                columns[name] = items(kind, name in ("request", "token_idx"))
        count = batch.number(0, "q")
        if {len(column) for column in columns.values()} - {count}:
            raise ValueError("columns of different lengths")
        return keys, self.at, self.rows_of(keys, columns, count)

    def rows_of(self, keys, columns, count):
        seq = int(keys["moetrace.first_seq"])
        rows = []
        for n in range(count):
            seq += columns["skipped"][n]
            weights = columns["topk_weights"][n] if "topk_weights" in columns else None
            if weights is not None and not all(w is None or math.isfinite(w) for w in weights):
                raise ValueError("a weight that is not finite, and not null")
            rows.append(
                {
                    "type": "route",
                    "req_id": None,
                    "token_idx": columns["token_idx"][n],
                    "layer": columns["layer"][n],
                    "topk_ids": columns["topk_ids"][n],
                    "topk_weights": weights,
                    "request": columns["request"][n],
                    "step": columns["step"][n],
                    "seq": seq,
                }
            )
            seq += 1
        if seq > int(keys["moetrace.next_seq"]):
            raise ValueError("rows beyond next_seq")
        return rows
