"""What the collector has written of a trace, line by line."""

import json

import arrow_rows
from harness import ROWS


def lines_of(path):
    """The lines of a whole file."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def seqs_of(path):
    """The numbers of a part's rows."""
    lines = arrow_rows.merged(path) if ROWS == "arrow" else path.read_text().splitlines()
    return [line["seq"] for line in map(json.loads, lines) if line["type"] == "route"]
