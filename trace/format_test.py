#!/usr/bin/python3
"""What trace/FORMAT.md shows is true.

Its check runs on its whole trace and finds what is wrong; its examples are golden lines.

format_test.py TRACE_FOLDER
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

TRACE = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else __file__.rsplit("/", 1)[0])
TEXT = (TRACE / "FORMAT.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.M | re.S)


def golden(pattern):
    return [
        line
        for path in sorted((TRACE / "testdata/golden").glob(pattern))
        for line in path.read_text().splitlines()
    ]


class Format(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="moetrace-test.")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        [self.check] = blocks("python")
        [self.whole] = blocks("jsonl")

    def run_check(self, lines):
        (self.folder / "check.py").write_text(self.check)
        (self.folder / "t.jsonl").write_text("".join(line + "\n" for line in lines))
        done = subprocess.run(
            [sys.executable, "-B", "check.py", "t.jsonl"],
            cwd=self.folder,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip() or done.stderr.strip().splitlines()[-1]

    def test_the_check_accepts_the_whole_trace(self):
        self.assertEqual(self.run_check(self.whole.splitlines()), "good")

    def test_the_check_misses_no_line(self):
        lines = self.whole.splitlines()
        for number, line in enumerate(lines):
            if json.loads(line)["type"] in ("step", "route", "loss"):
                self.assertIn(
                    "is missing", self.run_check(lines[:number] + lines[number + 1 :]), line
                )

    def test_the_check_adds_up(self):
        lines = self.whole.splitlines()
        end = json.loads(lines[-1])
        for key in ("attempted", "delivered", "filtered", "dropped", "torn"):
            wrong = json.dumps({**end, key: end[key] + 1})
            self.assertIn("AssertionError", self.run_check(lines[:-1] + [wrong]), key)

    def test_the_check_knows_parts_and_torn_rows(self):
        meta = self.whole.splitlines()[0]
        part = (
            '{"type":"part","part":2,"seq":5,"event":4,"step":1,"open":3,"dropped_total":0,"attempted_total":8,"delivered_total":5,'
            '"filtered_total":0,"torn_total":0,"event_lost_total":0}'
        )
        torn = [
            '{"type":"torn","first_seq":6,"count":1}',
            '{"type":"torn","first_seq":null,"count":1}',
        ]
        lost = (
            '{"type":"loss","dropped":7,"dropped_total":7,"cause":"event_ring_full","after_seq":6,'
            '"event_lost_total":7}'
        )
        end = {
            "type": "end",
            "attempted": 10,
            "delivered": 0,
            "filtered": 1,
            "dropped": 7,
            "torn": 2,
            "status": "closed",
        }
        self.assertEqual(self.run_check([meta, part, *torn, lost, json.dumps(end)]), "good")
        continued = json.dumps({**end, "attempted": 9, "torn": 1, "status": "continued", "open": 1})
        self.assertEqual(self.run_check([meta, part, torn[0], lost, continued]), "good")

    def test_the_examples_are_golden_lines(self):
        known = golden("*.json*")
        examples = [line for block in blocks("json") for line in block.splitlines()]
        self.assertGreater(len(examples), 12)
        for line in examples:
            self.assertIn(line, known)

    def test_the_whole_trace_has_the_keys_of_golden_lines(self):
        shapes = {}
        for line in golden("*.jsonl"):
            shapes.setdefault(json.loads(line)["type"], []).append(list(json.loads(line)))
        for line in map(json.loads, self.whole.splitlines()):
            self.assertIn(list(line), shapes[line["type"]])

    def test_every_key_has_its_place(self):
        """Each key of each golden line stands in a table, or in the text of its type."""
        tables = "\n".join(re.findall(r"^\|.*\|$", TEXT, re.M))
        objects = ("router", "cost", "ring")
        for line in map(json.loads, golden("*.json*")):
            for key, value in line.items():
                for name in (
                    [key, *(f"{key}.{inner}" for inner in value if key in objects)]
                    if isinstance(value, dict)
                    else [key]
                ):
                    short = "…_total" if name.endswith("_total") else name
                    self.assertTrue(
                        f"`{name}`" in tables or f"`{short}`" in tables or name == "type", name
                    )


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
