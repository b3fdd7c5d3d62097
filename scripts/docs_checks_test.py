#!/usr/bin/env python3
"""The checks of the documentation find what they are for: wrong links, anchors, paths, options, marks, and blocks that fail.

usage: docs_checks_test.py BUILD_DIR
"""
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPTS = pathlib.Path(__file__).resolve().parent
BUILD = sys.argv.pop() if len(sys.argv) > 1 else "build/dev"


class Checks(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.page = pathlib.Path(folder.name) / "page.md"

    def check(self, name, text, *options):
        """Exit code and output of a check on a page with this text."""
        self.page.write_text(text, encoding="utf-8")
        done = subprocess.run([sys.executable, "-B", SCRIPTS / f"check_{name}.py", *options, self.page], capture_output=True, text=True)
        self.assertEqual(done.stderr, "")
        return done.returncode, done.stdout

    def links(self, text):
        return self.check("links", text)

    def blocks(self, text):
        return self.check("blocks", text, "--build", BUILD)

    def expect(self, result, code, *texts):
        self.assertEqual(result[0], code, result[1])
        for text in texts:
            self.assertIn(text, result[1])

    def test_links(self):
        self.expect(self.links("# A heading, twice\n[a](#a-heading-twice) [b](https://example.org/x) `shm/abi.h` [`c`](page.md)\n"), 0)
        self.expect(self.links("[a](missing.md)\n"), 1, "page.md:1: link 'missing.md'")
        self.expect(self.links("# One\n[`a`](#two)\n"), 1, "link '#two'")
        self.expect(self.links("[a](PAGE.md)\n"), 1, "link 'PAGE.md'")
        self.expect(self.links("Look into `shm/no_such_file.h`.\n"), 1, "no_such_file.h")
        self.expect(self.links("```text\n[a](missing.md)\n```\n"), 0)

    def test_good_blocks(self):
        self.expect(self.blocks("```sh\nmoetraced --version & moetrace --version\n```\n```python\nimport moetrace\n```\n"
                                '```json\n{"a":1}\n{"b":2}\n```\n'), 0, "1 sh block run", "1 python block run", "1 json block checked")
        self.expect(self.blocks("<!-- not run: needs a moon -->\n```sh\nfly\n```\n"), 0, "not run: needs a moon")
        self.expect(self.blocks("<!-- file: a.py -->\n```python\nprint(1)\n```\n```sh\npython3 a.py\n```\n"), 0)

    def test_failing_blocks(self):
        self.expect(self.blocks("```sh\nfalse\n```\n"), 1, "page.md:2: this sh block failed: exit code 1")
        self.expect(self.blocks("```sh\n(exit 3) &\nsleep 0.2\n```\n"), 1, "ended with exit code 3")
        self.expect(self.blocks("```sh\n(exit 3) &\nwait\n```\n"), 1, "exit code 3")
        self.expect(self.blocks("```python\nraise ValueError('no')\n```\n"), 1, "ValueError: no")
        self.expect(self.blocks("<!-- not run: needs a moon -->\n```python\nif:\n```\n"), 1, "invalid syntax")
        self.expect(self.blocks("<!-- not run: needs a moon -->\n```sh\nif\n```\n"), 1, "syntax error")
        self.expect(self.blocks("```c\nint f(void) { int unused; return 1; }\n```\n"), 1, "unused")
        self.expect(self.blocks("```json\n{a}\n```\n"), 1, "no JSON")

    def test_marks(self):
        self.expect(self.blocks("<!-- not run -->\n```sh\nfly\n```\n"), 1, "the mark 'not run' has no text")
        self.expect(self.blocks("<!-- skip: because -->\n```sh\ntrue\n```\n"), 1, "expected one of not run, file")
        self.expect(self.blocks("```\ntrue\n```\n"), 1, "name its language")
        self.expect(self.blocks("```sh\ntrue\n"), 1, "has no end")
        self.expect(self.blocks("<!-- file: README.md -->\n```text\nx\n```\n"), 1, "names a file of the project")
        self.expect(self.blocks("<!-- file: docs/x -->\n```text\nx\n```\n"), 1, "names a file of the project")

    def test_options(self):
        self.expect(self.blocks("<!-- not run: needs a moon -->\n```sh\nmoetrace run --polt x -- vllm --any\n```\n"), 1,
                    "'moetrace run': its --help has no --polt")
        self.expect(self.blocks("<!-- not run: needs a moon -->\n```sh\nA=1 moetraced \\\n  --quite &\n```\n"), 1,
                    "'moetraced': its --help has no --quite")
        self.expect(self.blocks("Use `moetrace tpo` or `moetrace set --layer 3`.\n"), 1, "'moetrace tpo': no such command",
                    "'moetrace set': its --help has no --layer")
        self.expect(self.blocks("Use `moetrace set --layers 3`, `moetrace` and `moetrace-plot t.jsonl -o x --layer 2`.\n"), 0)


if __name__ == "__main__":
    unittest.main()
