"""The version of the package. Its one source is project(VERSION) of CMakeLists.txt."""

from __future__ import annotations

import pathlib
import re


def _version() -> str:
    """That of the source tree, if the package was loaded from one, else the installed package's.

    The tree comes first: an installed package beside it may be another version.
    """
    project = pathlib.Path(__file__).resolve().parents[2] / "CMakeLists.txt"
    try:
        found = re.search(
            r"^project\(moetrace VERSION ([0-9.]+)", project.read_text(), re.MULTILINE
        )
    except OSError:
        found = None
    if found:
        return found[1]
    import importlib.metadata  # here, because it takes longer to import than the whole package

    try:
        return importlib.metadata.version("moetrace")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


__version__ = _version()
