"""Where a collector publishes.

Covers runtime folders of other users, paths that are too long, and sockets and lists that another
program deletes."""

import json
import os
import pathlib
import shutil
import socket
import stat
import subprocess
import unittest

import zmq
from harness import MOETRACE, MOETRACED, Case, Collector, Replay, meta_line, wait_until

SERVICE = os.access("/run/moetrace", os.W_OK)


@unittest.skipIf(SERVICE, "/run/moetrace is here: collectors publish there")
class Endpoints(Case):
    def setUp(self):
        super().setUp()
        # A private session. Tests share only /tmp/moetrace-<uid>, where its name keeps them apart.
        self.session = f"test-{os.getpid()}-{self.folder.name[-8:].replace('.', '-')}"
        self.env["MOETRACE_SESSION"] = self.session
        self.last = pathlib.Path(f"/tmp/moetrace-{os.getuid()}")

    def collector(self, *arguments, env=None):
        """A collector with the default endpoint."""
        collector = Collector(self, "--output-dir", self.traces, *arguments, publish=None, env=env)
        return collector

    def listed(self, env=None):
        """The endpoints that another program finds."""
        replay = Replay(self)
        replay.feed(meta_line([0]))
        wait_until(self.trace_files, "no trace file")
        done = subprocess.run(
            [MOETRACE, "status", "--json", "--session", self.session],
            env={**self.env, **(env or {})},
            check=True,
            capture_output=True,
            text=True,
        )
        [segment] = json.loads(done.stdout)
        self.assertEqual(replay.wait(), 0, replay.stderr())
        self.wait_drained()
        return segment["endpoints"]

    def falls_back(self, env, why):
        collector = self.collector(env=env)
        endpoint = f"ipc://{self.last}/{self.session}.pub"
        self.assertEqual(
            collector.stderr(), f"moetraced: publish: {why}; publishing on {endpoint} instead\n"
        )
        self.assertEqual(self.listed(env), [endpoint])
        self.assertEqual(collector.stop(), 0, collector.stderr())
        self.assertEqual(
            [path for path in self.last.iterdir() if path.name.startswith(self.session)], []
        )

    def test_the_runtime_folder_of_the_environment_is_missing(self):
        missing = self.folder / "missing"
        self.falls_back(
            {"XDG_RUNTIME_DIR": str(missing)},
            f"{missing}/moetrace: can't make it: No such file or directory",
        )

    def test_a_path_that_is_too_long_for_a_socket(self):
        long = self.folder / ("x" * (100 - len(str(self.folder))))
        long.mkdir()
        path = f"{long}/moetrace-{os.getuid()}"
        self.falls_back(
            {"XDG_RUNTIME_DIR": "", "TMPDIR": str(long)},
            f"{path}: a socket's path there has {len(path) + len(self.session) + 5} bytes; "
            "the limit is 107",
        )

    def test_a_folder_that_others_can_write(self):
        folder = self.folder / "moetrace"
        folder.mkdir()
        folder.chmod(0o777)
        self.falls_back({}, f"{folder}: other users can write in it")
        self.assertEqual(list(folder.iterdir()), [])

    def test_a_folder_that_is_a_link(self):
        theirs = self.folder / "theirs"
        theirs.mkdir(mode=0o700)
        (self.folder / "moetrace").symlink_to(theirs)
        self.falls_back({}, f"{self.folder}/moetrace: it is a link")
        self.assertEqual(list(theirs.iterdir()), [])

    @unittest.skipUnless(os.geteuid() == 0, "only root can give a folder away")
    def test_a_folder_of_another_user(self):
        folder = self.folder / "moetrace"
        folder.mkdir(mode=0o700)
        precious = self.folder / "precious"
        precious.write_text("precious")
        (folder / f"{self.session}.pub").symlink_to(precious)
        (folder / f"{self.session}.endpoint").symlink_to(precious)
        os.chown(folder, 64001, 64001)
        self.falls_back({}, f"{folder}: it belongs to uid 64001")
        self.assertEqual(precious.read_text(), "precious")
        self.assertTrue((folder / f"{self.session}.endpoint").is_symlink())

    @unittest.skipUnless(os.geteuid() == 0, "only root can give a file away")
    def test_a_list_of_another_user_is_not_read(self):
        folder = self.folder / "moetrace"
        folder.mkdir(mode=0o700)
        collector = self.collector()
        listed = folder / f"{self.session}.endpoint"
        self.assertEqual(len(self.listed()), 1)
        os.chown(listed, 64001, 64001)
        self.traces.joinpath(self.trace_files()[0]).unlink()
        self.assertEqual(self.listed(), [])
        self.assertEqual(collector.stop(), 0, collector.stderr())

    def test_links_in_the_folder_are_not_followed(self):
        folder = self.folder / "moetrace"
        folder.mkdir(mode=0o700)
        precious = self.folder / "precious"
        precious.write_text("precious")
        listed = folder / f"{self.session}.endpoint"
        listed.symlink_to(precious)
        collector = self.collector()
        self.assertFalse(listed.is_symlink())
        self.assertEqual(collector.stop(), 0, collector.stderr())
        self.assertEqual(precious.read_text(), "precious")

    def refused(self, *arguments, code=1):
        done = subprocess.run(
            [
                MOETRACED,
                "--directory",
                str(self.rings),
                "--output-dir",
                str(self.traces),
                *arguments,
            ],
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        return done.stderr

    def test_a_file_in_the_place_of_a_socket_is_not_unlinked(self):
        precious = self.folder / "precious"
        precious.write_text("precious")
        self.assertIn(
            f"publish ipc://{precious}: can't bind: there is a file that is not a socket",
            self.refused("--publish", f"ipc://{precious}"),
        )
        link = self.folder / "link"
        link.symlink_to(precious)
        self.assertIn(
            "there is a file that is not a socket", self.refused("--publish", f"ipc://{link}")
        )
        self.assertEqual(precious.read_text(), "precious")

    def test_endpoints_that_cannot_be(self):
        for words, said in (
            (
                ["tcp://*:99999"],
                "publish tcp://*:99999: invalid port '99999': "
                "expected * or a number from 0 to 65535",
            ),
            (
                ["tcp://*:-1"],
                "publish tcp://*:-1: invalid port '-1': expected * or a number from 0 to 65535",
            ),
            (["tcp://127.0.0.1"], "publish tcp://127.0.0.1: its port is missing"),
            (["tcp://:5556"], "publish tcp://:5556: its address is missing"),
            (["ipc://"], "publish ipc://: its path is missing"),
            (["ipc:///" + "x" * 107], "its path has 108 bytes; the limit is 107"),
            (["inproc://here"], "publish inproc://here: other processes can't reach it"),
            (["udp://127.0.0.1:1"], "publish udp://127.0.0.1:1: unknown transport 'udp'"),
            (["/tmp/x"], "publish /tmp/x: it lacks ipc:// or tcp:// at its beginning"),
            (["none", "tcp://127.0.0.1:*"], "publish none: it excludes every other endpoint"),
            (["tcp://127.0.0.1:*", "none"], "publish none: it excludes every other endpoint"),
            (["ipc://x", "ipc://x"], "publish ipc://x: it is given twice"),
        ):
            given = [word for endpoint in words for word in ("--publish", endpoint)]
            self.assertIn(said, self.refused(*given, code=2))
            config = self.folder / "config.json"
            config.write_text(json.dumps({"publish": words}))
            line = self.refused("--config", str(config), code=2)
            self.assertIn(said, line)
            self.assertIn(str(config), line)
            done = subprocess.run(
                [MOETRACE, "run", *given, "--", "touch", self.folder / "ran"],
                env=self.env,
                cwd=self.folder,
                capture_output=True,
                text=True,
                timeout=60,
            )
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(said, done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
            self.assertFalse((self.folder / "ran").exists())
        self.assertFalse(self.traces.exists())

    def hears(self, endpoint):
        """A new subscriber gets the meta line."""
        context = zmq.Context()
        listener = context.socket(zmq.SUB)
        try:
            listener.setsockopt(zmq.SUBSCRIBE, b"meta")
            listener.connect(endpoint)
            self.assertTrue(listener.poll(60_000), "nothing comes")
            self.assertIn(b'"type":"meta"', listener.recv_multipart()[2])
        finally:
            context.destroy(0)

    def test_files_that_are_deleted_are_made_again(self):
        collector = self.collector()
        replay = Replay(self)
        replay.feed(meta_line([0]))
        wait_until(self.trace_files, "no trace file")
        folder = self.folder / "moetrace"
        socket_file, listed = folder / f"{self.session}.pub", folder / f"{self.session}.endpoint"
        endpoint = f"ipc://{socket_file}"
        self.hears(endpoint)
        socket_file.unlink()
        wait_until(socket_file.exists, "the socket is not made again")
        self.hears(endpoint)
        shutil.rmtree(folder)
        wait_until(lambda: listed.exists() and socket_file.exists(), "the folder is not made again")
        self.assertEqual(stat.S_IMODE(folder.stat().st_mode), 0o700)
        self.assertEqual(listed.read_text(), endpoint + "\n")
        self.hears(endpoint)
        said = (
            f"moetraced: publish {endpoint}: its socket file was deleted; "
            "made again, subscribers connect anew\n"
        )
        self.assertEqual(collector.stderr(), 2 * said)
        self.assertEqual(replay.wait(), 0, replay.stderr())
        self.assertEqual(collector.stop(), 0, collector.stderr())
        self.assertEqual(list(folder.iterdir()), [])

    def test_a_socket_whose_name_another_program_took_is_not_listed(self):
        collector = self.collector()
        folder = self.folder / "moetrace"
        socket_file, listed = folder / f"{self.session}.pub", folder / f"{self.session}.endpoint"
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(self.folder / "other"))
            other.listen()
            os.rename(self.folder / "other", socket_file)
            wait_until(lambda: not listed.exists(), "it is still listed")
            self.assertEqual(
                collector.stderr(),
                f"moetraced: publish ipc://{socket_file}: its socket file was deleted; "
                "not made again: another program "
                "has the name; start moetraced again to publish there\n",
            )
            self.assertEqual(collector.stop(), 0, collector.stderr())
            self.assertTrue(socket_file.exists(), "the other program's socket is gone")

    @unittest.skipUnless(os.geteuid() == 0, "only root can run it as another user")
    def test_it_runs_where_nothing_can_be_published(self):
        """If the last folder has another owner, too: one line, and the collector writes traces."""
        user = 64002
        trap = pathlib.Path(f"/tmp/moetrace-{user}")
        trap.mkdir()
        self.addCleanup(trap.rmdir)
        for folder in (self.folder, self.rings):
            folder.chmod(0o777)
        done = subprocess.Popen(
            [MOETRACED, "--directory", self.rings, "--output-dir", self.folder / "out"],
            user=user,
            env={**self.env, "XDG_RUNTIME_DIR": "/missing"},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(done.stderr.close)
        self.assertEqual(
            done.stderr.readline(),
            "moetraced: publish: /missing/moetrace: can't make it: No such file or directory; "
            f"{trap}: it belongs to uid 0; traces are written but not published; "
            "give --publish ENDPOINT\n",
        )
        self.assertIn("ready: ", done.stderr.readline())
        done.terminate()
        self.assertEqual(done.wait(60), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
