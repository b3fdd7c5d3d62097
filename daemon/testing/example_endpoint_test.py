"""The example subscriber finds the endpoint that `moetrace.stream` finds, without the package."""

import fcntl
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest
from unittest import mock

from harness import (
    HERE,
    SUBSCRIBER,
    TIMEOUT_S,
    Case,
    Collector,
    Replay,
    load_module,
    make_steps,
    meta_line,
)

PACKAGE_RULES = HERE.parents[1] / "python/moetrace/reading/_endpoints.py"


class SameEndpoint(unittest.TestCase):
    """The example and the package choose the same endpoint from the same folders."""

    def setUp(self):
        self.example, self.package = load_module(SUBSCRIBER), load_module(PACKAGE_RULES)
        self.runtime = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory(prefix="moetrace-test."))
        )
        self.folder = self.runtime / "moetrace"
        self.enterContext(mock.patch.dict(os.environ, XDG_RUNTIME_DIR=str(self.runtime)))

    def expect(self, endpoint, session="test"):
        stream = self.package.listed(session) or self.package.default(session)
        self.assertEqual((self.example.find_endpoint(session), stream), (endpoint, endpoint))

    def write_list(self, text, *, locked=True):
        self.folder.mkdir(mode=0o700, exist_ok=True)
        path = self.folder / "test.endpoint"
        path.write_text(text)
        if locked:
            file = self.enterContext(path.open("r+b"))
            fcntl.fcntl(
                file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
            )

    def test_without_a_list_the_default_socket(self):
        self.expect(f"ipc://{self.folder}/test.pub")
        self.expect(f"ipc://{self.folder}/other.pub", "other")

    def test_the_first_of_several_listed_endpoints(self):
        self.write_list("tcp://127.0.0.1:5556\nipc:///tmp/second.pub\n")
        self.expect("tcp://127.0.0.1:5556")

    def test_the_list_of_a_dead_collector_does_not_count(self):
        self.write_list("tcp://127.0.0.1:5556\n", locked=False)
        self.expect(f"ipc://{self.folder}/test.pub")

    def test_a_folder_that_others_can_write_is_left_out(self):
        self.write_list("tcp://127.0.0.1:5556\n")
        self.folder.chmod(0o777)
        self.expect(f"ipc:///tmp/moetrace-{os.getuid()}/test.pub")

    def test_a_link_is_no_folder_and_no_list(self):
        real = self.runtime / "real"
        self.write_list("tcp://127.0.0.1:5556\n")
        self.folder.rename(real)
        self.folder.symlink_to(real)
        self.expect(f"ipc:///tmp/moetrace-{os.getuid()}/test.pub")
        self.folder.unlink()
        self.folder.mkdir(mode=0o700)
        (self.folder / "test.endpoint").symlink_to(real / "test.endpoint")
        self.expect(f"ipc://{self.folder}/test.pub")

    def test_a_path_too_long_for_a_socket(self):
        deep = self.runtime / ("x" * 100)
        deep.mkdir()
        with mock.patch.dict(os.environ, XDG_RUNTIME_DIR=str(deep)):
            self.expect(f"ipc:///tmp/moetrace-{os.getuid()}/test.pub")

    def test_the_temporary_folder(self):
        environment = {
            name: value for name, value in os.environ.items() if name != "XDG_RUNTIME_DIR"
        }
        with mock.patch.dict(os.environ, {**environment, "TMPDIR": str(self.runtime)}, clear=True):
            self.expect(f"ipc://{self.runtime}/moetrace-{os.getuid()}/test.pub")


class Session(Case):
    def test_a_session_with_several_endpoints(self):
        """The example gets only the session."""
        Collector(
            self,
            "--output-dir",
            self.traces,
            "--publish",
            f"ipc://{self.folder}/second",
            publish="tcp://127.0.0.1:*",
            session="other",
        )
        replay = Replay(self, session="other")
        replay.feed(meta_line([0, 1, 2, 5]))
        rows_file = self.folder / "rows.jsonl"
        example = subprocess.Popen(
            [
                sys.executable,
                "-B",
                SUBSCRIBER,
                "--session",
                "other",
                "--output",
                str(rows_file),
                "--count",
                "1",
            ],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(example.wait)
        self.addCleanup(example.kill)
        steps = make_steps(8, 1 << 40)
        while example.poll() is None:
            replay.feed(next(steps))
        out, err = example.communicate(timeout=TIMEOUT_S)
        self.assertEqual((example.returncode, err), (0, ""))
        self.assertRegex(out, r"^subscriber: trace [0-9a-f-]{36}: got \d+ rows, missed 0")
        self.assertGreater(rows_file.read_bytes().count(b"\n"), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
