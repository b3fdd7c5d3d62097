#!/usr/bin/env python3
"""Checks the Markdown files: every relative link and anchor resolves, every path of this tree
between backticks exists, and the README keeps to its length.

usage: check_links.py [FILE...]      (default: all Markdown files of the project)

Exit code 1 and a line for each finding.
"""

from __future__ import annotations

import pathlib
import re
import sys
import urllib.parse

import markdown_files
from markdown_files import ROOT, Problem

MOST_README_WORDS = 1200
_LINK = re.compile(
    r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^()<>\s]+(?:\([^()]*\))?)>?(?:\s+\"[^\"]*\")?\s*\)"
)
_REFERENCE = re.compile(r"^\s{0,3}\[[^\]]+\]:\s+(\S+)")
_HTML = re.compile(r"(?:src|href)=\"([^\"]+)\"")


def in_exact_case(path: pathlib.Path) -> bool:
    """Whether the file is there under exactly this name."""
    return path.exists() and (
        path == ROOT
        or not path.is_relative_to(ROOT)
        or path.name in {entry.name for entry in path.parent.iterdir()}
    )


def wrong_link(path: pathlib.Path, target: str) -> str | None:
    """Why `target` leads nowhere from the file `path`; None: it resolves, or leads out of here."""
    parts = urllib.parse.urlsplit(target)
    if parts.scheme or parts.netloc:
        return None
    place = (
        path
        if not parts.path
        else pathlib.Path(
            ROOT / parts.path.lstrip("/")
            if parts.path.startswith("/")
            else path.parent / urllib.parse.unquote(parts.path)
        ).resolve()
    )
    if not in_exact_case(place):
        return f"link '{target}': no such file"
    if (
        parts.fragment
        and place.suffix == ".md"
        and parts.fragment not in markdown_files.anchors(place)
    ):
        return f"link '{target}': {markdown_files.shown(place)} has no heading with this anchor"
    return None


def wrong_path(span: str, rooms: set[str]) -> str | None:
    """Why the code span names a missing file of this tree; None: it is there, or not a path."""
    words = span.split()
    word = words[0].removeprefix("./") if words else ""
    room, slash, rest = word.partition("/")
    if not slash or room not in rooms or re.search(r"[*<>{}$…]", word):
        return None
    return (
        None if in_exact_case(ROOT / word.rstrip("/,;:")) else f"`{span}`: this tree has no {word}"
    )


def check(path: pathlib.Path, rooms: set[str]) -> list[Problem]:
    found = []
    for number, line in markdown_files.prose(path):
        text = markdown_files.without_code(line)
        # A link's text may be code: [`ABI.md`](shm/ABI.md).
        targets = [
            match[1] for pattern in (_LINK, _REFERENCE, _HTML) for match in pattern.finditer(text)
        ]
        whys = [wrong_link(path, target) for target in targets] + [
            wrong_path(span, rooms) for span in markdown_files.code_spans(line)
        ]
        found += [Problem(markdown_files.shown(path), number, why) for why in whys if why]
    return found


def main() -> int:
    files = markdown_files.files(sys.argv[1:])
    rooms = {
        entry.name for entry in ROOT.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    } - {"build", "out"}
    found = [problem for path in files for problem in check(path, rooms)]
    for path in files:
        words = len(path.read_text(encoding="utf-8").split())
        if path == ROOT / "README.md" and words > MOST_README_WORDS:
            found.append(
                Problem(
                    "README.md",
                    1,
                    f"{words} words; expected at most {MOST_README_WORDS}: move details to docs/",
                )
            )
    print("\n".join(map(str, found)) or f"{len(files)} files: every link, anchor and path resolves")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
