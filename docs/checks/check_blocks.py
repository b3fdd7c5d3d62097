#!/usr/bin/env python3
"""Runs the code blocks of the documentation as a reader would.

usage: check_blocks.py --build DIR [FILE...]

DIR is a build with the programs; without FILE, README.md and docs/*.md are run. The blocks of a
file run in their order, in one folder of their own that looks like a checkout. What they run is
DIR's: bin/ is in PATH, the libraries are installed into a prefix that pkg-config and CMake find,
and `out/demo/model` is the demonstration's model.

  ```sh       runs in bash with -e -o pipefail; a background command must end with 0, or by the
              SIGTERM that it gets when the block is over
  ```python   runs with /usr/bin/python3 and the package of this tree
  ```c        compiles with -Wall -Wextra -Werror
  ```json     each line, or all of it, is JSON
  ```cmake, ```text, ```ini are not looked at

A comment in the line before a block marks it:

  <!-- file: NAME -->    also writes it into that file, for later blocks
  <!-- not run: WHY -->  names what it needs that a test does not have; its syntax is checked

The options of this project's programs are compared with their --help, in every block and in every
code span. Exit code 0, and how many blocks of each kind there were; 1: a line for each block or
option that is wrong.
"""

from __future__ import annotations

import argparse
import ast
import collections
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import markdown_files
from markdown_files import ROOT, Block, Problem
from place import PROLOGUE, Place
from program_options import SHELLS, Options, wrong_options

NOT_CHECKED = ("cmake", "text", "ini")
PYTHON = "/usr/bin/python3"


def wrong_json(text: str) -> str | None:
    try:
        json.loads(text)
    except ValueError:
        try:
            for line in text.splitlines():
                json.loads(line)
        except ValueError as error:
            return f"no JSON: {error}"
    return None


def look(block: Block, place: Place) -> tuple[str, str | None]:
    """What was done with the block, and why it is wrong."""
    why_not, name = block.marks.get("not run"), block.marks.get("file")
    if name and (why := place.write(name, block.text)):
        return "failed", why
    if block.language == "python":
        try:
            ast.parse(block.text, feature_version=(3, 9))
        except SyntaxError as error:
            return "failed", f"line {error.lineno} of this block: {error.msg}"
    if block.language in SHELLS and (why := place.run(["/bin/bash", "-n"], block.text)):
        return "failed", why
    if block.language == "json":
        return "checked", wrong_json(block.text)
    if block.language in NOT_CHECKED:
        return "not checked", None
    if why_not:
        return f"not run: {why_not}", None
    if block.language in SHELLS:
        return "run", place.run(["/bin/bash", "-c", PROLOGUE + block.text])
    if block.language == "python":
        return "run", place.run([PYTHON, "-B", "-"], block.text)
    if block.language == "c":
        package = "moetrace-reader" if "moetrace/reader.h" in block.text else "moetrace"
        flags = subprocess.run(
            ["pkg-config", "--cflags", package],
            env=place.environment,
            capture_output=True,
            text=True,
        )
        return "compiled", flags.stderr if flags.returncode else place.run(
            [
                "cc",
                "-std=c11",
                "-Wall",
                "-Wextra",
                "-Werror",
                *flags.stdout.split(),
                "-x",
                "c",
                "-c",
                "-o",
                "/dev/null",
                "-",
            ],
            block.text,
        )
    return (
        "failed",
        f"'{block.language}': name its language, one of sh, python, c, json, cmake, text, ini",
    )


def install(build: pathlib.Path, prefix: pathlib.Path) -> None:
    """The hook's library and the reader's, as `cmake --install` gives them to an engine."""
    for room in ("producer", "trace"):
        subprocess.run(
            ["cmake", "--install", build / room, "--prefix", prefix],
            check=True,
            stdout=subprocess.DEVNULL,
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--build", required=True, type=pathlib.Path)
    parser.add_argument("files", nargs="*")
    given = parser.parse_args()
    build = given.build.resolve()
    files = (
        markdown_files.files(given.files)
        if given.files
        else [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    )

    problems: list[Problem] = []
    done: collections.Counter = collections.Counter()
    options = Options(build / "bin")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="moetrace-docs."))
    try:
        prefix, model, engine = folder / "prefix", folder / "model", build / "bin/moetrace-engine"
        texts = "".join(path.read_text(encoding="utf-8") for path in files)
        if "pkg-config" in texts or "```c\n" in texts or "find_package" in texts:
            install(build, prefix)
        with_model = "out/demo/model" in texts and engine.exists()
        if with_model:
            subprocess.run(
                [engine, "init-model", "--seed", "1234", model],
                check=True,
                stdout=subprocess.DEVNULL,
            )
        for n, path in enumerate(files):
            blocks = markdown_files.blocks(path, problems)
            problems += wrong_options(path, blocks, options)
            place = Place(folder / str(n), build, prefix, model if with_model else None)
            try:
                for block in blocks:
                    what, why = look(block, place)
                    done[block.language, what] += 1
                    if why:
                        why = f"this {block.language} block failed: {why}"
                        problems.append(Problem(block.path, block.line, why))
            finally:
                place.remove()
    finally:
        shutil.rmtree(folder)
    for (language, what), count in sorted(done.items()):
        print(f"{count:4} {language} {'block' if count == 1 else 'blocks'} {what}")
    print("\n".join(map(str, problems)) or f"{len(files)} files: every block does what it shows")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
