"""The options that the documentation gives to this project's programs, beside their --help."""

from __future__ import annotations

import contextlib
import pathlib
import re
import shlex
import subprocess
from typing import Iterator

import markdown_files
from markdown_files import Block, Problem

PROGRAMS = ("moetrace", "moetraced", "moetrace-plot", "moetrace-engine")
SHELLS = ("sh", "bash")
HELP_LIMIT_S = 60
_OPTION = re.compile(r"(?<![\w-])(--?[A-Za-z][\w-]*)")


class Options:
    """The options that the programs of a build know."""

    def __init__(self, programs: pathlib.Path):
        self._programs = programs
        self._known: dict[tuple[str, str], tuple[set[str], set[str]]] = {}

    def of(self, program: str, command: str = "") -> tuple[set[str], set[str]]:
        """The options of `PROGRAM COMMAND`, and its subcommands."""
        if (program, command) not in self._known:
            asked = [self._programs / program, *filter(None, [command]), "--help"]
            said = subprocess.run(
                asked, capture_output=True, text=True, timeout=HELP_LIMIT_S
            ).stdout
            commands = "" if command else said.partition("Subcommands:")[2]
            self._known[program, command] = (
                set(_OPTION.findall(said)),
                set(re.findall(r"^  ([a-z][\w-]+)", commands, re.MULTILINE)),
            )
        return self._known[program, command]

    def wrong(self, line: str) -> Iterator[str]:
        """What `line` gives to our programs that they don't know."""
        with contextlib.suppress(ValueError):
            words = shlex.split(line, comments=True)
            for n, word in enumerate(words):
                program = word.rpartition("/")[2]
                if program in PROGRAMS and (self._programs / program).exists():
                    yield from self._wrong_words(program, words[n + 1 :])

    def _wrong_words(self, program: str, words: list[str]) -> Iterator[str]:
        known, commands = self.of(program)
        command = ""
        if commands:
            if not words or words[0].startswith("-") or not re.fullmatch(r"[a-z][\w-]*", words[0]):
                return
            if words[0] not in commands:
                yield f"'{program} {words[0]}': no such command"
                return
            command, words = words[0], words[1:]
            known = self.of(program, command)[0]
        for word in words:
            if word in ("--", "&", "|", ";", "&&", "||", ">", "2>&1") or word.endswith(";"):
                return
            if (option := _OPTION.match(word)) and option[1] not in known:
                asked = " ".join(filter(None, [program, command]))
                yield f"'{asked}': its --help has no {option[1]}"


def lines(block: Block) -> Iterator[tuple[int, str]]:
    """The numbered command lines of a block; one that ends with a backslash goes on in the next."""
    begun, start = "", block.line
    for number, line in enumerate(block.text.splitlines(), block.line):
        start = start if begun else number
        begun += line
        if begun.endswith("\\"):
            begun = begun[:-1]
        else:
            yield start, begun
            begun = ""


def wrong_options(path: pathlib.Path, blocks: list[Block], options: Options) -> Iterator[Problem]:
    commands = [line for block in blocks if block.language in SHELLS for line in lines(block)]
    for number, line in markdown_files.prose(path):
        commands += [(number, span) for span in markdown_files.code_spans(line)]
    for number, line in commands:
        for why in options.wrong(line):
            yield Problem(markdown_files.shown(path), number, why)
