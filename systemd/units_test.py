"""Checks the unit, its user and its directory without a running systemd."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
UNIT = pathlib.Path(os.environ.get("MOETRACE_UNIT", HERE / "moetraced.service"))
MAX_EXPOSURE = 1.0


def run(*command):
    return subprocess.run(command, capture_output=True, text=True)


class Units(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))

    def unit_with_program(self, program):
        """The installed unit with an existing program: `systemd-analyze verify` looks for it."""
        text, found = re.subn(
            r"^ExecStart=\S+", f"ExecStart={program}", UNIT.read_text(), flags=re.M
        )
        self.assertEqual(found, 1)
        unit = self.folder / "moetraced.service"
        unit.write_text(text)
        return unit

    def test_unit_is_understood(self):
        result = run(
            "systemd-analyze",
            "verify",
            "--man=no",
            "--recursive-errors=no",
            self.unit_with_program("/bin/true"),
        )
        self.assertEqual((result.returncode, result.stderr.strip()), (0, ""))

    def test_unit_is_locked_down(self):
        unit = self.unit_with_program("/bin/true")
        result = run("systemd-analyze", "security", "--offline=yes", "--no-pager", unit)
        exposure = re.search(r"exposure level for \S+: ([0-9.]+)", result.stdout)
        self.assertIsNotNone(exposure, result.stdout + result.stderr)
        table = run("systemd-analyze", "security", "--offline=yes", "--json=short", unit)
        open_points = [
            row
            for row in json.loads(table.stdout)
            if row.get("exposure") not in (None, "", "0", "0.0")
        ]
        self.assertLessEqual(
            float(exposure.group(1)), MAX_EXPOSURE, json.dumps(open_points, indent=1)
        )

    def test_unit_serves_only_its_own_directories(self):
        text = UNIT.read_text()
        self.assertEqual(re.findall(r"^ReadWritePaths=(.*)$", text, re.M), ["/run/moetrace"])
        self.assertIn("Type=notify\n", text)
        self.assertIn("PrivateNetwork=yes\n", text)
        self.assertIn("RestrictAddressFamilies=AF_UNIX\n", text)

    def test_documentation_is_installed(self):
        prefix = self.folder / "prefix"
        result = run(
            os.environ["MOETRACE_CMAKE"],
            "--install",
            os.environ["MOETRACE_UNIT_BUILD"],
            "--component",
            "systemd",
            "--prefix",
            prefix,
        )
        self.assertEqual(result.returncode, 0, result.stderr)
        [unit] = prefix.rglob("moetraced.service")
        [document] = re.findall(r"^Documentation=file:(/.*)$", unit.read_text(), re.M)
        installed = prefix / pathlib.Path(document).relative_to(os.environ["MOETRACE_PREFIX"])
        self.assertIn("moetraced", installed.read_text())

    def install_root(self):
        root = self.folder / "root"
        (root / "etc").mkdir(parents=True)
        (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
        (root / "etc/group").write_text("root:x:0:\n")
        return root

    def test_user_is_made(self):
        root = self.install_root()
        result = run("systemd-sysusers", f"--root={root}", HERE / "moetraced.sysusers")
        self.assertEqual(result.returncode, 0, result.stderr)
        users = [line.split(":") for line in (root / "etc/passwd").read_text().splitlines()]
        user = next(fields for fields in users if fields[0] == "moetrace")
        self.assertEqual(user[5:], ["/var/lib/moetrace", "/usr/sbin/nologin"])
        self.assertIn("moetrace:", (root / "etc/group").read_text())

    @unittest.skipUnless(os.geteuid() == 0, "changing an owner needs root")
    def test_ring_directory_is_made(self):
        root = self.install_root()
        with (root / "etc/group").open("a") as groups:
            groups.write("moetrace:x:4242:\n")
        result = run("systemd-tmpfiles", "--create", f"--root={root}", HERE / "moetraced.tmpfiles")
        self.assertEqual(result.returncode, 0, result.stderr)
        made = (root / "run/moetrace").stat()
        self.assertEqual((oct(made.st_mode), made.st_uid, made.st_gid), (oct(0o42770), 0, 4242))


if __name__ == "__main__":
    if shutil.which("systemd-analyze") is None:
        print("skipped: systemd is not installed")
        sys.exit(77)
    unittest.main()
