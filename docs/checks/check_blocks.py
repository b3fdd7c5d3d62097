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
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

import markdown_files
from markdown_files import ROOT, Block, Problem
from program_options import SHELLS, Options, wrong_options

TIME_LIMIT_S = 120  # a block takes a second or two; the machine may be busy
MOST_OUTPUT_LINES = 12  # of a block that failed
NOT_CHECKED = ("cmake", "text", "ini")
PYTHON = "/usr/bin/python3"

# Around a block: a failed background command is an error, as one in the foreground is, and none
# outlives the block.
PROLOGUE = r"""
declare -A _background=()
_finish() {
  local code=$? pid ended
  trap - EXIT DEBUG
  set +e
  [ -z "${!-}" ] || _background[$!]=1
  for pid in "${!_background[@]}"; do
    kill -TERM "$pid" 2>/dev/null
    builtin wait "$pid"
    ended=$?
    case $ended in
      0 | 143) ;;
      *)
        echo "a background command of this block ended with exit code $ended"
        [ "$code" -ne 0 ] || code=$ended
        ;;
    esac
  done
  exit "$code"
}
# Without arguments bash's own gives 0 even if a job has failed.
wait() {
  local pid
  [ $# -eq 0 ] || { builtin wait "$@"; return; }
  _background[$!]=1
  for pid in "${!_background[@]}"; do
    unset "_background[$pid]"
    builtin wait "$pid" || return
  done
}
trap _finish EXIT
trap '[ -z "${!-}" ] || _background[$!]=1' DEBUG
set -e -o pipefail
"""


class Place:
    """Where the blocks of one file run."""

    def __init__(
        self,
        folder: pathlib.Path,
        build: pathlib.Path,
        prefix: pathlib.Path,
        model: pathlib.Path | None,
    ):
        self.folder, self.rings, runtime, home = (
            folder / name for name in ("checkout", "rings", "run", "home")
        )
        for made in (self.folder, self.rings, runtime, home):
            made.mkdir(mode=0o700)
        tracked = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        for name in sorted({pathlib.Path(file).parts[0] for file in tracked}):
            (self.folder / name).symlink_to(ROOT / name)
        if model:
            (self.folder / "out/demo").mkdir(parents=True)
            (self.folder / "out/demo/model").symlink_to(model)
        libraries = [str(path) for path in prefix.glob("lib*/**/") if any(path.glob("*.so"))]
        self.environment = {
            "PATH": f"{build / 'bin'}:/usr/bin:/bin",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "TMPDIR": str(folder),
            "MOETRACE_DIR": str(self.rings),
            "XDG_RUNTIME_DIR": str(runtime),
            "LD_LIBRARY_PATH": ":".join(libraries),
            "PKG_CONFIG_PATH": ":".join(str(path) for path in prefix.glob("lib*/**/pkgconfig")),
            "CMAKE_PREFIX_PATH": str(prefix),
            "PYTHONPATH": str(ROOT / "python"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "MOETRACE_LIBRARY": str(build / "lib/libmoetrace.so"),
            "MOETRACE_READER_LIBRARY": str(build / "lib/libmoetrace_reader.so"),
        }

    def write(self, name: str, text: str) -> str | None:
        """Puts a block's text into a file, never into the project's own; why that can't be."""
        file = self.folder / name
        if (
            file.exists()
            and file.is_symlink()
            or not file.parent.resolve().is_relative_to(self.folder.resolve())
        ):
            return f"the mark 'file: {name}' names a file of the project; name a new one"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            return f"the mark 'file: {name}': {error.strerror}; name another file"
        return None

    def run(self, command: list[str], text: str | None = None) -> str | None:
        """Why the command failed, and what it said; None: it did not. Ends whatever it started."""
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                text=True,
            )
            try:
                process.communicate(text, timeout=TIME_LIMIT_S)
                ended = f"exit code {process.returncode}" if process.returncode else None
            except subprocess.TimeoutExpired:
                ended = f"still running after {TIME_LIMIT_S} s"
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if ended is None:
                return None
            output.seek(0)
            said = output.read().splitlines()[-MOST_OUTPUT_LINES:]
            return "\n    ".join([ended, *said])


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
    # In memory where that is possible: rings are there, too.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = pathlib.Path(tempfile.mkdtemp(prefix="moetrace-docs.", dir=memory))
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
            here = folder / str(n)
            here.mkdir()
            place = Place(here, build, prefix, model if with_model else None)
            for block in blocks:
                what, why = look(block, place)
                done[block.language, what] += 1
                if why:
                    problems.append(
                        Problem(
                            block.path, block.line, f"this {block.language} block failed: {why}"
                        )
                    )
    finally:
        shutil.rmtree(folder)
    for (language, what), count in sorted(done.items()):
        print(f"{count:4} {language} {'block' if count == 1 else 'blocks'} {what}")
    print("\n".join(map(str, problems)) or f"{len(files)} files: every block does what it shows")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
