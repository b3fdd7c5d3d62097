#!/usr/bin/env python3
"""The checks of the documentation find wrong links, anchors, paths, options, marks and blocks.

usage: checks_test.py BUILD_DIR
"""

import pathlib
import subprocess
import sys
import tempfile
import unittest

CHECKS = pathlib.Path(__file__).resolve().parent
BUILD = sys.argv.pop() if len(sys.argv) > 1 else "build/dev"
NOT_RUN = "<!-- not run: needs a moon -->\n"

# page -> its text, and a part of what must be said about it; None: the page is good
LINKS = {
    "good": (
        "# A heading, twice\n[a](#a-heading-twice) [b](https://example.org/x)\n"
        "`shm/abi.h` [`c`](good.md)\n"
        "```text\n[a](missing.md)\n```\n",
        None,
    ),
    "file": ("[a](missing.md)\n", "1: link 'missing.md'"),
    "anchor": ("# One\n[`a`](#two)\n", "2: link '#two'"),
    "case": ("[a](GOOD.md)\n", "1: link 'GOOD.md'"),
    "path": ("Look into `shm/no_such_file.h`.\n", "1: `shm/no_such_file.h`"),
}
BLOCKS = {
    "run": (
        "```sh\nmoetraced --version & moetrace --version\n```\n```python\nimport moetrace\n```\n"
        '```json\n{"a":1}\n{"b":2}\n```\n',
        None,
    ),
    "marked": (NOT_RUN + "```sh\nfly\n```\n", None),
    "file": ("<!-- file: a.py -->\n```python\nprint(1)\n```\n```sh\npython3 a.py\n```\n", None),
    "options": (
        "Use `moetrace set --layers 3`, `moetrace` and `moetrace-plot t.jsonl -o x --layer 2`.\n",
        None,
    ),
    "exit": ("```sh\nfalse\ntrue\n```\n", "2: this sh block failed: exit code 1"),
    "background": ("```sh\n(exit 3) &\nsleep 0.2\n```\n", "ended with exit code 3"),
    "waited": ("```sh\n(exit 3) &\nwait\n```\n", "exit code 3"),
    "pipe": ("```sh\nfalse | true\n```\n", "exit code 1"),
    "raises": ("```python\nraise ValueError('no')\n```\n", "ValueError: no"),
    "python": (NOT_RUN + "```python\nif:\n```\n", "invalid syntax"),
    "shell": (NOT_RUN + "```sh\nif\n```\n", "syntax error"),
    "c": ("```c\nint f(void) { int unused; return 1; }\n```\n", "unused"),
    "json": ("```json\n{a}\n```\n", "no JSON"),
    "reason": ("<!-- not run -->\n```sh\nfly\n```\n", "the mark 'not run' has no text"),
    "mark": ("<!-- skip: because -->\n```sh\ntrue\n```\n", "expected one of not run, file"),
    "language": ("```\ntrue\n```\n", "name its language"),
    "fence": ("```sh\ntrue\n", "has no end"),
    "ours": ("<!-- file: README.md -->\n```text\nx\n```\n", "names a file of the project"),
    "within": ("<!-- file: docs/x -->\n```text\nx\n```\n", "names a file of the project"),
    "option": (
        NOT_RUN + "```sh\nmoetrace run --polt x -- vllm --any\n```\n",
        "3: 'moetrace run': its --help has no --polt",
    ),
    "next_line": (
        NOT_RUN + "```sh\nA=1 moetraced \\\n  --quite &\n```\n",
        "'moetraced': its --help has no --quite",
    ),
    "command": ("Use `moetrace tpo`.\n", "1: 'moetrace tpo': no such command"),
    "span": ("Use `moetrace set --layer 3`.\n", "1: 'moetrace set': its --help has no --layer"),
}


class Checks(unittest.TestCase):
    def check(self, name, pages, *options):
        with tempfile.TemporaryDirectory() as folder:
            files = []
            for page, (text, _) in pages.items():
                files.append(pathlib.Path(folder) / f"{page}.md")
                files[-1].write_text(text, encoding="utf-8")
            done = subprocess.run(
                [sys.executable, "-B", CHECKS / f"check_{name}.py", *options, *files],
                capture_output=True,
                text=True,
            )
            self.assertEqual((done.returncode, done.stderr), (1, ""))
            for file, (text, expected) in zip(files, pages.values()):
                with self.subTest(page=file.stem):
                    said = done.stdout.partition(f"{file}:")[2].partition(f"\n{folder}/")[0]
                    self.assertIn(expected or "", said, text)
                    self.assertEqual(bool(said), expected is not None, said)
            return done.stdout

    def test_links(self):
        self.check("links", LINKS)

    def test_blocks(self):
        said = self.check("blocks", BLOCKS, "--build", BUILD)
        self.assertIn("not run: needs a moon", said)
        self.assertIn("2 json blocks checked", said)


if __name__ == "__main__":
    unittest.main()
