"""Shared by the adapters' tests: a test with a ring directory of its own."""

import pathlib
import tempfile
import unittest


class WithRings(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="moetrace-test.", dir="/dev/shm")
        self.addCleanup(folder.cleanup)
        self.rings = pathlib.Path(folder.name)

    def rings_left(self):
        return sorted(path.name for path in self.rings.iterdir())
