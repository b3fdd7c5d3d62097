"""The Markdown files of this project, as its checks see them: blocks, prose, headings."""

from __future__ import annotations

import pathlib
import re
import subprocess
from typing import Iterator, NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[2]
MARKS = (
    "not run",
    "file",
)  # the HTML comments that may stand in the line before a block: <!-- not run: needs a GPU -->

NOT_OURS = {".git", ".venv", "build", "out"}

_FENCE = re.compile(r"^( {0,3})(`{3,}|~{3,})\s*([^`]*)$")
_COMMENT = re.compile(r"^\s*<!--\s*(.*?)\s*-->\s*$")
_CODE_SPAN = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)")


class Problem(NamedTuple):
    path: str
    line: int
    why: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.why}"


class Block(NamedTuple):
    """A fenced code block. line: of its text. marks: what the comments before it say."""

    path: str
    line: int
    language: str
    text: str
    marks: dict[str, str]


def tracked() -> list[pathlib.Path]:
    """The files that git knows or could add; without git, all but what a build leaves."""
    asked = ["git", "ls-files", "-co", "--exclude-standard"]
    try:
        said = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        names = [pathlib.Path(name) for name in said.splitlines()]
    except (OSError, subprocess.CalledProcessError):
        names = [path.relative_to(ROOT) for path in ROOT.rglob("*")]
        names = [name for name in names if name.parts[0] not in NOT_OURS]
    return sorted(name for name in names if (ROOT / name).is_file())


def files(named: list[str] | None = None) -> list[pathlib.Path]:
    """The Markdown files of this tree, or those named."""
    if named:
        return [pathlib.Path(name).resolve() for name in named]
    return [ROOT / name for name in tracked() if name.suffix == ".md"]


def shown(path: pathlib.Path) -> str:
    """`path` as a reader knows it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def blocks(path: pathlib.Path, problems: list[Problem]) -> list[Block]:
    """All code blocks of a file. An unknown mark, or one without a reason, is a problem."""
    found: list[Block] = []
    name, marks, fence = shown(path), {}, None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if fence is not None:
            indent, ticks, language, first, text, block_marks = fence
            if re.fullmatch(rf"\s{{0,3}}{re.escape(ticks[0])}{{{len(ticks)},}}\s*", line):
                found.append(Block(name, first, language, "\n".join(text) + "\n", block_marks))
                fence = None
            else:
                text.append(line[len(indent) :] if line.startswith(indent) else line)
            continue
        if opened := _FENCE.match(line):
            fence = (opened[1], opened[2], opened[3].strip(), number + 1, [], marks)
            marks = {}
        elif comment := _COMMENT.match(line):
            key, _, value = comment[1].partition(":")
            marks[key.strip()] = value.strip()
        else:
            marks = {}
    if fence is not None:
        problems.append(Problem(name, fence[3] - 1, "this code block has no end; add a line ```"))
    for block in found:
        for key, value in block.marks.items():
            if key not in MARKS:
                problems.append(
                    Problem(
                        name,
                        block.line - 2,
                        f"'<!-- {key}' before a code block: expected one of {', '.join(MARKS)}",
                    )
                )
            elif not value:
                problems.append(
                    Problem(
                        name,
                        block.line - 2,
                        f"the mark '{key}' has no text; write <!-- {key}: why or which -->",
                    )
                )
    return found


def prose(path: pathlib.Path) -> Iterator[tuple[int, str]]:
    """The numbered lines outside of code blocks and comments."""
    fence = None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if fence:
            if re.fullmatch(rf"\s{{0,3}}{re.escape(fence[0])}{{{len(fence)},}}\s*", line):
                fence = None
        elif opened := _FENCE.match(line):
            fence = opened[2]
        elif not _COMMENT.match(line):
            yield number, line


def code_spans(line: str) -> list[str]:
    """The texts between backticks in a line of prose."""
    return [match[2].strip() for match in _CODE_SPAN.finditer(line)]


def without_code(line: str) -> str:
    return _CODE_SPAN.sub("", line)


def anchors(path: pathlib.Path) -> set[str]:
    """The anchors of a file's headings as GitHub makes them: lower case, no punctuation, '-' for
    blanks, '-1' for the second of one name."""
    found: set[str] = set()
    for _, line in prose(path):
        if heading := re.match(r"#{1,6}\s+(.*?)\s*#*\s*$", line):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).replace("`", "")
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            unique, n = slug, 0
            while unique in found:
                n += 1
                unique = f"{slug}-{n}"
            found.add(unique)
        found.update(re.findall(r"<a\s+(?:name|id)=\"([^\"]+)\"", line))
    return found
