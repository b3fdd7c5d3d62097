"""Traces whose rows are in a file of their own: what the lines alone say of it."""

import json


def is_apart(path):
    """Whether the trace's rows are in a file of their own."""
    with path.open() as file:
        return "rows" in json.loads(file.readline())


def beside(path):
    """The rows file of the lines `path`: trace.arrows.1 of trace.jsonl.1."""
    return path.with_name(".arrows".join(path.name.rsplit(".jsonl", 1)))


def rows_in(path):
    """Rows of a part, as its last whole `rows` line says."""
    said = last_rows_line(path)
    if said is None:
        return 0
    with path.open() as file:
        file.readline()
        second = file.readline()
    starts = second.startswith(('{"type":"part"', '{"type":"base"'))
    return said["delivered_total"] - (json.loads(second)["delivered_total"] if starts else 0)


def last_rows_line(path):
    """What the last whole `rows` line says; None without one."""
    said = None
    for line in path.read_bytes().splitlines(keepends=True):
        if line.startswith(b'{"type":"rows"') and line.endswith(b"\n"):
            said = json.loads(line)
    return said
