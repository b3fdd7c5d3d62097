"""python -m moetrace.parquet INPUT OUTPUT: a trace's rows as Parquet, and back.

NAME.parquet has the rows, as columns, and NAME.jsonl beside it the trace's other lines, as beside
NAME.arrows. INPUT or OUTPUT is NAME.parquet; the other one is a trace in any form that `moetrace
convert` knows, or as INPUT a plain log. Nothing is lost: JSON Lines to Parquet and back are the
same bytes. Needs pyarrow, and the program `moetrace`.

Exit code 0: OUTPUT is complete; 1: it is not there, and one line says why; 2: usage.
"""

from __future__ import annotations

import argparse
import itertools
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import BinaryIO, Optional, Sequence, Union

from . import _inventory
from .errors import ReadError
from .reading._parquet_rows import arrow_batches, parquet_batches, pyarrow, read_head

PARQUET = ".parquet"
# Rows of a row group: enough to compress well, few enough to hold in memory.
GROUP_ROWS = 1 << 18


def convert(
    source: Union[os.PathLike, str],
    target: Union[os.PathLike, str],
    *,
    force: bool = False,
    options: Sequence[str] = (),
) -> None:
    """Converts the trace `source` to `target`, one of which ends in `.parquet`. `options`: more of
    those of `moetrace convert`, such as ("--num-experts", "60"). ReadError if that fails; then
    nothing has the name `target`."""
    source, target = pathlib.Path(source), pathlib.Path(target)
    if (source.suffix == PARQUET) == (target.suffix == PARQUET):
        raise ReadError(
            f"{source}, {target}: expected one name that ends in {PARQUET}; "
            "moetrace convert does the other conversions"
        )
    for file in (target, _lines(target) if target.suffix in (PARQUET, ".arrows") else target):
        if file.exists() and any(_same(file, given) for given in (source, _lines(source))):
            if target.suffix == PARQUET and _is_pair(source):
                continue  # they are its lines already
            raise ReadError(f"{file}: is a file of the input; give another name")
        if file.exists() and not force:
            raise ReadError(f"{file}: exists; give another name, or --force to replace it")
    if not source.exists():
        raise ReadError(f"{source}: no such file; give a trace")
    try:
        with tempfile.TemporaryDirectory(prefix=".moetrace.", dir=target.parent) as folder:
            if target.suffix == PARQUET:
                _to_parquet(source, target, pathlib.Path(folder), options)
            else:
                pair = pathlib.Path(folder) / target.with_suffix(".arrows").name
                _write_pair(source, pair)
                _moetrace(pair, target, ["--force"] if force else [], options)
    except OSError as error:
        raise ReadError(
            f"{error.filename or target}: {error.strerror or error}; nothing was written"
        ) from None


def _lines(path: pathlib.Path) -> pathlib.Path:
    return path.with_suffix(".jsonl")


def _same(file: pathlib.Path, other: pathlib.Path) -> bool:
    return file.exists() and other.exists() and file.samefile(other)


def _is_pair(path: pathlib.Path) -> bool:
    """Whether it is, as it lies there, the two files of a trace with rows as Arrow."""
    rows, lines = path.with_suffix(".arrows"), _lines(path)
    if path.suffix not in (".arrows", ".jsonl") or not (rows.exists() and lines.exists()):
        return False
    return read_head(lines).get("rows") is not None


def _moetrace(source: pathlib.Path, target: pathlib.Path, *options: Sequence[str]) -> None:
    program = _inventory.find_program("moetrace")
    if program is None:
        raise ReadError("moetrace: the program is not installed; add its folder to PATH")
    command = [program, "convert", str(source), "-o", str(target), *itertools.chain(*options)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    said = done.stderr.strip()
    if done.returncode:
        raise ReadError(said.removeprefix("moetrace: ") or f"moetrace convert: {done.returncode}")
    if said:
        print(said, file=sys.stderr)


def _to_parquet(
    source: pathlib.Path, target: pathlib.Path, folder: pathlib.Path, options: Sequence[str]
) -> None:
    if _is_pair(source):
        pair = source.with_suffix(".arrows")
    else:
        pair = folder / target.with_suffix(".arrows").name
        _moetrace(source, pair, options)
    lines = _lines(pair)
    rows, copy = folder / "rows", folder / "lines"
    schema, batches = parquet_batches(pair, lines, GROUP_ROWS)
    with (
        _private(rows) as file,
        pyarrow().parquet.ParquetWriter(file, schema, compression="zstd") as writer,
    ):
        for batch in batches:
            writer.write_batch(batch, row_group_size=GROUP_ROWS)
    with open(lines, "rb") as given, _private(copy) as file:
        shutil.copyfileobj(given, file)
    # The rows come first, as with moetrace convert.
    os.replace(rows, target)
    if not _same(_lines(target), lines):
        os.replace(copy, _lines(target))


def _private(path: pathlib.Path) -> BinaryIO:
    """A new file. A trace is as private as the text: routing can reveal tokens."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "wb")


def _write_pair(source: pathlib.Path, pair: pathlib.Path) -> None:
    """The Parquet file and its lines, as rows as Arrow: what `moetrace convert` reads."""
    lines = _lines(source)
    if not lines.exists():
        raise ReadError(
            f"{source}: the trace's other lines should be in {lines}, which is not there; "
            "put both files into one folder"
        )
    arrow_batches(source, lines, pair, _lines(pair))


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m moetrace.parquet",
        description="A trace's rows as Parquet, and back; its other lines are in NAME.jsonl.",
    )
    parser.add_argument("input", metavar="INPUT", help="a trace, a plain log, or NAME.parquet")
    parser.add_argument("output", metavar="OUTPUT", help="NAME.parquet, or as moetrace convert -o")
    parser.add_argument("--force", action="store_true", help="replace files of these names")
    parser.add_argument("--lossy", action="store_true", help="as in moetrace convert")
    parser.add_argument("--num-experts", metavar="N", help="as in moetrace convert")
    given = parser.parse_args(arguments)
    options = ["--lossy"] if given.lossy else []
    if given.num_experts:
        options += ["--num-experts", given.num_experts]
    try:
        convert(given.input, given.output, force=given.force, options=options)
    except ReadError as error:
        print(f"moetrace.parquet: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("moetrace.parquet: interrupted; nothing was written; run it again", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
