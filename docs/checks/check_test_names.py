#!/usr/bin/env python3
"""Checks that docs/verification.md names tests that exist: each code span in a column "test" is a
regular expression that matches a CTest name, or a program of this tree.

Exit code 1 and a line for each that is neither.

usage: check_test_names.py BUILD_DIR
"""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Iterator

import markdown_files
from markdown_files import ROOT, Problem

PAGE = ROOT / "docs/verification.md"


def named(path) -> Iterator[tuple[int, str]]:
    """The code spans in the last column of the tables whose last heading is "test"."""
    in_table = wanted = False
    for number, line in markdown_files.prose(path):
        if not line.startswith("|"):
            in_table = False
            continue
        cells = [
            cell.strip()
            for cell in re.sub(r"`[^`]*`", lambda span: span[0].replace("|", "\0"), line)
            .strip()
            .strip("|")
            .split("|")
        ]
        if not in_table:
            in_table, wanted = True, cells[-1] == "test"
        elif wanted:
            yield from (
                (number, span.replace("\0", "|")) for span in markdown_files.code_spans(cells[-1])
            )


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__.splitlines()[-1], file=sys.stderr)
        return 2
    listed = subprocess.run(
        ["ctest", "--test-dir", sys.argv[1], "-N"], capture_output=True, text=True, check=True
    ).stdout
    tests = re.findall(r"^  Test +#\d+: (.*)$", listed, re.MULTILINE)
    problems, count = [], 0
    for number, name in named(PAGE):
        count += 1
        if (ROOT / name).exists() or any(re.search(name, test) for test in tests):
            continue
        problems.append(
            Problem(
                markdown_files.shown(PAGE),
                number,
                f"'{name}' is neither a test of {sys.argv[1]} nor a program; "
                "ctest -N lists the tests",
            )
        )
    if problems and any(test.endswith("_NOT_BUILT") for test in tests):
        print("some test programs are not built, so their tests are not listed; build everything")
    if not count:
        problems.append(Problem(markdown_files.shown(PAGE), 1, "no table has a column 'test'"))
    print("\n".join(map(str, problems)) or f"{count} names of tests: each exists")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
