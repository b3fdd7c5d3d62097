"""One collector serves a session; collectors of several users."""

import os
import subprocess
import unittest

from harness import MOETRACE, MOETRACED, Case, Collector, wait_until


class Sessions(Case):
    def test_a_session_has_one_collector(self):
        endpoint_file = self.folder / "moetrace" / f"{self.session}.endpoint"
        endpoint_file.parent.mkdir()
        first = Collector(
            self, "--output-dir", self.traces, publish=f"ipc://{self.folder}/first.pub"
        )
        listed = endpoint_file.read_text()
        for publish in ("none", f"ipc://{self.folder}/second.pub"):
            said = self.refused("--output-dir", self.folder / "untouched", "--publish", publish)
            self.assertEqual(
                said,
                f"moetraced: a collector (pid {first.process.pid}) already serves "
                f"session '{self.session}' in "
                f"{self.rings}; stop it, or set another --session\n",
            )
        self.assertEqual(endpoint_file.read_text(), listed)
        self.assertFalse((self.folder / "untouched").exists())
        self.assertFalse((self.folder / "second.pub").exists())
        # Collectors of other sessions or ring directories may run. They leave its endpoints alone.
        elsewhere = self.folder / "rings"
        elsewhere.mkdir()
        others = [Collector(self, session="other"), Collector(self, directory=elsewhere)]
        for other in others:
            self.assertEqual(other.stop(), 0, other.stderr())
        self.assertEqual(endpoint_file.read_text(), listed)
        # A killed collector blocks no other.
        for _ in range(20):
            first.kill()
            first = self.start_collector()
        self.assertEqual(len(os.listdir(self.rings)), 1)
        self.assertEqual((first.stop(), first.stderr()), (0, ""))
        self.assertEqual(os.listdir(self.rings), [])

    def test_of_collectors_that_start_at_once_one_stays(self):
        started = [
            subprocess.Popen(
                [
                    MOETRACED,
                    "--directory",
                    self.rings,
                    "--publish",
                    "none",
                    "--output-dir",
                    self.traces,
                ],
                env=self.env,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(10)
        ]
        said = [process.stderr.readline() for process in started]
        for process in started:
            process.terminate()
            process.communicate(timeout=60)
        self.assertEqual(sum(line.startswith("moetraced: ready") for line in said), 1, said)
        self.assertEqual(sum("already serves" in line for line in said), 9, said)

    def test_a_socket_is_not_taken_from_another_collector(self):
        endpoint = f"ipc://{self.folder}/moetrace/{self.session}.pub"  # the default one
        (self.folder / "moetrace").mkdir()
        first = Collector(self, "--output-dir", self.traces, publish=endpoint)
        socket_file = self.folder / f"moetrace/{self.session}.pub"

        def file():  # a new socket would change these; a connection changes only the access time
            status = socket_file.stat()
            return status.st_ino, status.st_ctime_ns

        before = file()
        elsewhere = self.folder / "rings"
        elsewhere.mkdir()
        self.assertIn(
            "Address already in use", self.refused("--output-dir", self.traces, directory=elsewhere)
        )
        self.assertIn(
            "Address already in use",
            self.refused("--output-dir", self.traces, "--publish", endpoint, directory=elsewhere),
        )
        self.assertEqual(file(), before)
        self.assertTrue(socket_file.with_suffix(".endpoint").exists())
        first.kill()  # its socket file stays
        second = Collector(self, "--output-dir", self.traces, publish=endpoint)
        self.assertEqual(second.stop(), 0, second.stderr())
        self.assertEqual(
            list(socket_file.parent.iterdir()),
            [],
            "a collector that was stopped leaves nothing behind",
        )

    def test_only_the_own_endpoints_are_removed(self):
        endpoint_file = self.folder / "moetrace" / f"{self.session}.endpoint"
        endpoint_file.parent.mkdir()
        elsewhere = self.folder / "rings"
        elsewhere.mkdir()
        first = Collector(
            self, "--output-dir", self.traces, publish=f"ipc://{self.folder}/first.pub"
        )
        second = Collector(self, directory=elsewhere, publish=f"ipc://{self.folder}/second.pub")
        listed = endpoint_file.read_text()
        self.assertIn("second.pub", listed)
        self.assertEqual(first.stop(), 0, first.stderr())
        self.assertEqual(endpoint_file.read_text(), listed)
        self.assertEqual(second.stop(), 0, second.stderr())
        self.assertFalse(endpoint_file.exists())

    @unittest.skipUnless(os.geteuid() == 0, "running as another user needs root")
    def test_users_of_one_ring_directory(self):
        """Users of one group share one collector a session.

        Other users don't, nor do users who can't write the directory."""
        try:
            subprocess.run(
                [MOETRACED, "--version"], user=64001, cwd="/", stdout=subprocess.DEVNULL, check=True
            )
        except PermissionError:
            self.skipTest("other users can't start the program")
        self.folder.chmod(0o777)
        for name, ours, theirs, mode, meet in (
            ("group", 64001, 64001, 0o2770, True),
            ("all", 64001, 64002, 0o1777, False),
            ("read-only", 64001, 64001, 0o555, False),
        ):
            rings = self.rings / name
            rings.mkdir()
            os.chown(rings, 0, ours)
            rings.chmod(mode)
            self.rings.chmod(0o755)
            first = self.start_as(64001, ours, rings)
            if meet:
                said = self.refused(
                    "--publish", "none", directory=rings, user=64002, group=theirs, extra_groups=[]
                )
                self.assertIn(f"(pid {first.pid}) already serves", said)
                continue
            second = self.start_as(64002, theirs, rings)
            if name == "all":
                said = self.refused(
                    "--publish", "none", directory=rings, user=64002, group=theirs, extra_groups=[]
                )
                self.assertIn(f"(pid {second.pid}) already serves", said)

    @unittest.skipUnless(os.geteuid() == 0, "running as another user needs root")
    def test_rings_of_another_user(self):
        """A service drains its group's rings. It reports each ring that it can't remove or open."""
        engine, service, group = 64001, 64002, 64003
        try:
            subprocess.run(
                [MOETRACED, "--version"],
                user=engine,
                cwd="/",
                stdout=subprocess.DEVNULL,
                check=True,
            )
        except PermissionError:
            self.skipTest("other users can't start the program")
        self.folder.chmod(0o777)
        self.rings.chmod(0o755)
        source = self.write_log(14, 500)
        source.chmod(0o644)

        def record(rings, user, **env):
            subprocess.run(
                [MOETRACE, "replay", source, "--rate", "1e9"],
                user=user,
                group=user,
                extra_groups=[group],
                cwd="/",
                env={**self.env, "MOETRACE_DIR": str(rings), **env},
                stdout=subprocess.DEVNULL,
                check=True,
            )

        for name, mode, env, left, said in (
            ("service", 0o2770, {}, 0, []),
            (
                "sticky",
                0o1777,
                {"MOETRACE_GROUP": str(group)},
                1,
                ["drained, but can't be removed"],
            ),
            ("private", 0o1777, {}, 1, ["MOETRACE_GROUP"]),
        ):
            with self.subTest(name):
                rings = self.rings / name
                rings.mkdir()
                os.chown(rings, 0, group)
                rings.chmod(mode)
                record(rings, engine, **env)
                process = self.start_as(service, group, rings)
                record(rings, service)
                record(rings, service)
                lines = [process.stderr.readline() for _ in range(4)]
                wait_until(
                    lambda rings=rings, left=left: (
                        len([file for file in rings.iterdir() if file.suffix == ".ring"]) == left
                    ),
                    "not drained",
                )
                process.terminate()
                lines += process.stderr.readlines()
                complaints = [
                    line for line in lines if " begins: " not in line and " has ended: " not in line
                ]
                self.assertEqual(len(complaints), len(said), lines)
                for line, part in zip(complaints, said):
                    self.assertIn(part, line)
                self.assertEqual(
                    sum(" has ended: closed, " in line for line in lines),
                    2 if name == "private" else 3,
                    lines,
                )

    def start_as(self, user, group, rings):
        command = [
            MOETRACED,
            "--directory",
            rings,
            "--output-dir",
            self.folder / f"{rings.name}.{user}",
            "--publish",
            "none",
        ]
        process = subprocess.Popen(
            command,
            env=self.env,
            cwd=self.folder,
            stderr=subprocess.PIPE,
            text=True,
            umask=0o077,
            user=user,
            group=group,
            extra_groups=[],
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        self.assertIn("moetraced: ready", process.stderr.readline())
        return process


if __name__ == "__main__":
    unittest.main(verbosity=2)
