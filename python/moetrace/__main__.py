"""python -m moetrace: says what is installed, whether it would record, and what is wrong.

usage: python -m moetrace [--json]

Exit code 0: what is installed is usable; lines that begin with "problem" say what is missing.
1: the library of the hook can't be loaded, or can't make a ring.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Iterator, Optional, Sequence

from . import _inventory


def rows(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Label and text of each line for a reader."""
    yield "package", f"{found['version']}, {found['package']}"
    yield "python", f"{found['python']}, {found['executable']}"
    library, reader = found["library"], found["reader"]
    yield "hook", f"{library['path']}, ABI {library['abi']}" if library["path"] else "missing"
    yield "reader", reader["path"] or "missing"
    for name in ("numpy", "pyzmq"):
        extra = {"numpy": "read", "pyzmq": "stream"}[name]
        yield "", _installed(name, reader[name], f"pip install 'moetrace[{extra}]'")
    yield "CUDA", _cuda(found["cuda"])
    for name, adapter in found["adapters"].items():
        yield name, _adapter(adapter)
    for name, program in found["programs"].items():
        path, version = program["path"], program["version"]
        yield name, f"{version or 'unknown version'}, {path}" if path else "not found"
    recording = found["recording"]
    yield "recording", f"{'on' if recording['on'] else 'off'}: {recording['why']}"
    for name, value in recording["settings"].items():
        yield "", f"{name}={value}"
    yield "rings", _rings(found["rings"])
    for problem in found["problems"]:
        yield "problem", problem


def _installed(name: str, version: Optional[str], what_to_try: str) -> str:
    return f"{name} {version}" if version else f"{name} is not installed; {what_to_try}"


def _cuda(cuda: dict[str, Any]) -> str:
    in_hook = {True: "in the hook", False: "not in the hook", None: "unknown"}[cuda["in_hook"]]
    driver = f"driver for CUDA {cuda['driver']}" if cuda["driver"] else ""
    gpus = f"GPUs: {', '.join(cuda['gpus'])}" if cuda["gpus"] else ""
    return "; ".join(part for part in (in_hook, driver, gpus, cuda["why"]) if part)


def _adapter(adapter: dict[str, Any]) -> str:
    version = adapter["version"] or ""
    text = "would be traced" if adapter["binds"] else adapter["why"]
    return f"{version}: {text}" if version else text


def _rings(rings: dict[str, Any]) -> str:
    free = "" if rings["free_mib"] is None else f", {rings['free_mib']:,} MiB free"
    return f"{rings['directory']}{free}, {'writable' if rings['writable'] else 'not writable'}"


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m moetrace", description="Says what is installed and whether it would record."
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, for programs")
    given = parser.parse_args(arguments)
    found = _inventory.take()
    if given.json:
        print(json.dumps(found, indent=2))
    else:
        lines = list(rows(found))
        width = max(len(label) for label, _ in lines)
        for label, text in lines:
            print(f"{label:<{width}}  {text}")
    return 0 if found["usable"] else 1


if __name__ == "__main__":
    sys.exit(main())
