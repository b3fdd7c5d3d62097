"""moetrace.stream and its endpoint: where it looks for a collector, and what it says without one.

MOETRACE_LIBRARY, MOETRACE_READER_LIBRARY, MOETRACED and MOETRACE_CLI name the libraries and the
programs; the package is on PYTHONPATH.
"""

import logging
import os
import pathlib
import socket
import threading
import unittest
import unittest.mock

import moetrace
from streaming_case import Case, harness


class Endpoints(Case):
    def setUp(self):
        super().setUp()
        self.enterContext(unittest.mock.patch.dict(os.environ))  # undone after each test

    @unittest.skipIf(
        os.access("/run/moetrace", os.R_OK), "/run/moetrace is here: collectors publish there"
    )
    def test_default_endpoint_is_where_the_collector_is(self):
        """Of a collector that is told nothing, whatever the runtime folder is."""
        usual, last = f"{self.folder}/moetrace", f"/tmp/moetrace-{os.getuid()}"
        names = ("XDG_RUNTIME_DIR", "TMPDIR")
        session = f"test-{os.getpid()}-{self.folder.name[-8:].replace('.', '-')}"
        self.addCleanup(lambda: pathlib.Path(f"{last}/{session}.pub").unlink(missing_ok=True))
        long = self.folder / ("x" * (100 - len(str(self.folder))))
        long.mkdir()

        def check(folder, runtime, temporary=""):
            os.environ.update(XDG_RUNTIME_DIR=str(runtime), TMPDIR=str(temporary))
            endpoint = f"ipc://{folder}/{session}.pub"
            self.assertEqual(moetrace.default_endpoint(session), endpoint)
            collector = harness.Collector(
                self,
                "--output-dir",
                self.traces,
                publish=None,
                session=session,
                env={name: os.environ[name] for name in names},
            )
            # The list is in the first folder that can be used, also where a socket's path there is
            # too long.
            [listed] = [
                path
                for path in (
                    *self.folder.rglob(f"{session}.endpoint"),
                    pathlib.Path(f"{last}/{session}.endpoint"),
                )
                if path.exists()
            ]
            self.assertEqual(listed.read_text(), endpoint + "\n")
            self.assertEqual(moetrace.default_endpoint(session), endpoint)
            collector.kill()  # its list stays, without an owner
            listed.write_text("tcp://127.0.0.1:1\n")
            self.assertEqual(moetrace.default_endpoint(session), endpoint)
            listed.unlink()

        check(usual, self.folder)
        check(last, self.folder / "missing")
        check(last, "", long)
        os.chmod(usual, 0o777)
        check(last, self.folder)

    def test_timeout_stop_and_default_endpoint(self):
        os.environ.update(XDG_RUNTIME_DIR=str(self.folder), MOETRACE_SESSION=self.session)
        if os.access("/run/moetrace", os.W_OK):
            self.skipTest("/run/moetrace is here: this collector would publish there")
        self.assertEqual(
            moetrace.default_endpoint(), f"ipc://{self.folder}/moetrace/{self.session}.pub"
        )
        self.start_collector()
        self.assertEqual(moetrace.default_endpoint(), self.endpoint)  # it has written it down
        with moetrace.stream(timeout=0.05) as stream:
            self.assertEqual(list(stream), [])
            self.start_trace(stream)
            stream.timeout = None
            threading.Timer(0.2, stream.stop).start()
            self.assertEqual(list(stream), [])
        self.assertEqual(list(stream), [])
        stream.close()

    def said(self, endpoint):
        """What opening a stream says."""
        with self.assertLogs("moetrace") as logs:
            logging.getLogger("moetrace").warning("nothing else")
            self.stream(endpoint)
        return [record.getMessage() for record in logs.records][1:]

    def test_no_collector_publishes_yet(self):
        line = (
            f"moetrace: {self.endpoint}: no collector publishes there yet; "
            "waiting for a collector; `moetrace status` shows its endpoint"
        )
        self.assertEqual(self.said(self.endpoint), [line])
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(str(self.folder / "pub"))
        self.assertEqual(self.said(self.endpoint), [line])
        (self.folder / "pub").unlink()
        with self.assertLogs("moetrace") as logs:
            stream = self.stream()
            self.start_collector()
            self.start_trace(stream)  # it has waited
            stream.timeout = 0.2
            self.assertEqual(list(stream), [])
        self.assertEqual(len(logs.records), 1)
        self.assertEqual(self.said(self.endpoint), [])
        self.assertEqual(self.said("tcp://127.0.0.1:9"), [])

    def test_an_abstract_endpoint(self):
        endpoint = f"ipc://@{self.folder}"
        self.assertEqual(len(self.said(endpoint)), 1)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(f"\0{self.folder}")
            listening.listen()
            self.assertEqual(self.said(endpoint), [])

    def test_no_endpoint(self):
        with self.assertRaisesRegex(
            moetrace.ReadError, r"^nonsense: [^\n]+; `moetrace status` shows the endpoint$"
        ):
            self.stream("nonsense")


if __name__ == "__main__":
    unittest.main(verbosity=2)
