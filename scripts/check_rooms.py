#!/usr/bin/env python3
"""Finds includes that no arrow of the architecture allows.

Prints a line for each, with exit code 1."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Who may include whom, besides a room's own headers and common/.
ARROWS = {
    "common": set(),
    "shm": set(),
    "trace": set(),
    "producer": {"shm"},
    "engine": {"producer", "shm"},
    "daemon": {"producer", "shm", "trace"},
    "plotter": {"trace"},
    "python": {"producer", "shm"},
}
# The arrows that only some files may use: the engine needs the layer mask (its tests a folder), and
# of the daemon only replay, tests and benchmarks write rings.
NARROW = {
    ("engine", "shm"): lambda file, header: (
        header in {"shm/layer_mask.hpp", "shm/test_directory.hpp"}
    ),
    ("daemon", "producer"): lambda file, header: (
        re.search(r"replay|test|bench", file.name) is not None
    ),
}
found = []
for room, allowed in ARROWS.items():
    for file in sorted((ROOT / room).rglob("*")):
        if file.suffix not in {".c", ".h", ".cpp", ".hpp", ".cu", ".cuh"}:
            continue
        for header in re.findall(r'^#include "([^"]+)"', file.read_text(), re.M):
            other = header.split("/")[0]
            narrow = NARROW.get((room, other), lambda file, header: True)
            if other not in ARROWS:
                continue
            if other not in {room, "common"} and not (other in allowed and narrow(file, header)):
                found.append(
                    f"{file.relative_to(ROOT)} includes {header}: {room} must not know {other}"
                )
print("\n".join(found))
sys.exit(1 if found else 0)
