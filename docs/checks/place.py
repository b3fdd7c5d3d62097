"""Where the blocks of one Markdown file run: a folder like a checkout, with rings of its own."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import markdown_files
from markdown_files import ROOT

TIME_LIMIT_S = 120  # a block takes a second or two; the machine may be busy
MOST_OUTPUT_LINES = 12  # of a block that failed

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
        self._all, self.folder = folder, folder / "checkout"
        runtime, home = folder / "run", folder / "home"
        for made in (self.folder, runtime, home):
            made.mkdir(mode=0o700, parents=True)
        # Rings are in memory, where that is possible.
        memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else folder
        self._rings = tempfile.mkdtemp(prefix="moetrace-docs.", dir=memory)
        for name in sorted({file.parts[0] for file in markdown_files.tracked()}):
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
            "MOETRACE_DIR": self._rings,
            "XDG_RUNTIME_DIR": str(runtime),
            "LD_LIBRARY_PATH": ":".join(libraries),
            "PKG_CONFIG_PATH": ":".join(str(path) for path in prefix.glob("lib*/**/pkgconfig")),
            "CMAKE_PREFIX_PATH": str(prefix),
            "PYTHONPATH": str(ROOT / "python"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "MOETRACE_LIBRARY": str(build / "lib/libmoetrace.so"),
            "MOETRACE_READER_LIBRARY": str(build / "lib/libmoetrace_reader.so"),
        }

    def remove(self) -> None:
        for folder in (self._rings, self._all):
            shutil.rmtree(folder, ignore_errors=True)

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
