"""python -m moetrace: what it finds, and that each thing that is wrong is one line.

MOETRACE_LIBRARY, MOETRACED and MOETRACE_CLI name the library and the programs, CC a C compiler.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "moetrace"
SOURCE = PACKAGE.parents[1]
BIN = pathlib.Path(os.environ["MOETRACE_CLI"]).parent
VERSION = re.search(
    r"^project\(moetrace VERSION ([0-9.]+)", (SOURCE / "CMakeLists.txt").read_text(), re.MULTILINE
)[1]


def abi_of_the_header():
    text = (SOURCE / "shm/abi.h").read_text()
    numbers = [
        re.search(rf"#define MOETRACE_ABI_{part} (\d+)", text)[1] for part in ("MAJOR", "MINOR")
    ]
    return ".".join(numbers)


class Main(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="moetrace-test.")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.site = self.folder / "site"  # as an environment's site-packages
        self.site.mkdir()

    def run_main(self, *arguments, package=PACKAGE.parent, **environment):
        environment = {
            **{name: text for name, text in os.environ.items() if name != "MOETRACE"},
            "PYTHONPATH": f"{package}:{self.site}",
            "PATH": f"{BIN}:/usr/bin:/bin",
            "MOETRACE_DIR": str(self.folder),
            **environment,
        }
        environment = {name: text for name, text in environment.items() if text is not None}
        return subprocess.run(
            [sys.executable, "-B", "-m", "moetrace", *arguments],
            env=environment,
            cwd=self.folder,
            text=True,
            capture_output=True,
        )

    def found(self, expected_code=0, **more):
        done = self.run_main("--json", **more)
        self.assertEqual(done.returncode, expected_code, done.stderr)
        found = json.loads(done.stdout)
        for problem in found["problems"]:
            self.assertNotIn("\n", problem)
        return found

    def problems(self, about, **more):
        return [line for line in self.found(**more)["problems"] if line.startswith(about)]

    def install(self, name, version, *modules, points=""):
        """A package of which nothing may be imported."""
        for module in ("__init__", *modules):
            path = self.site / name / f"{module}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("raise SystemExit('this was imported')\n")
        described = self.site / f"{name}-{version}.dist-info"
        described.mkdir()
        (described / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        (described / "entry_points.txt").write_text(points)

    def test_versions(self):
        found = self.found()
        self.assertEqual(
            (found["version"], found["library"]["abi"]), (VERSION, abi_of_the_header())
        )
        self.assertEqual(
            pathlib.Path(found["library"]["path"]).resolve(),
            pathlib.Path(os.environ["MOETRACE_LIBRARY"]).resolve(),
        )
        for name in ("moetrace", "moetraced"):
            self.assertEqual(found["programs"][name], {"path": str(BIN / name), "version": VERSION})
        self.assertEqual(list(self.folder.glob("moetrace*")), [], "it left something in the rings")

    def test_lines(self):
        done = self.run_main()
        lines = dict(re.split(r"  +", line, maxsplit=1) for line in done.stdout.splitlines())
        self.assertEqual(lines["package"], f"{VERSION}, {PACKAGE}")
        self.assertEqual(lines["moetraced"], f"{VERSION}, {BIN / 'moetraced'}")
        self.assertEqual(lines["vllm"], "not installed")
        self.assertTrue(lines["recording"].startswith("off: MOETRACE is not set; "))
        starts = {len(line) - len(re.sub(r"^\S* +", "", line)) for line in done.stdout.splitlines()}
        self.assertEqual(len(starts), 1, "texts are not aligned")

    def test_without_the_library(self):
        done = self.run_main(MOETRACE_LIBRARY="/nowhere.so")
        self.assertEqual((done.returncode, done.stderr), (1, ""))
        self.assertRegex(done.stdout, r"(?m)^problem +libmoetrace: /nowhere.so: [^\n]+; install ")
        self.assertFalse(self.found(1, MOETRACE_LIBRARY="/nowhere.so")["usable"])

    def test_without_the_reader(self):
        (line,) = self.problems("libmoetrace_reader: ", MOETRACE_READER_LIBRARY="/nowhere.so")
        self.assertIn("/nowhere.so", line)

    def test_programs_of_the_package_come_first(self):
        """The version of an installed package is that of its metadata, which also lists its
        programs, wherever pip put them."""
        ignored = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(PACKAGE, self.site / "moetrace", ignore=ignored)
        described = self.site / "moetrace-9.8.7.dist-info"
        described.mkdir()
        (described / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: moetrace\nVersion: 9.8.7\n"
        )
        (described / "RECORD").write_text(
            "moetrace/__init__.py,,\n../programs/moetrace,,\n../programs/moetraced,,\n"
        )
        beside = self.site.parent / "programs"
        beside.mkdir()
        shutil.copy(BIN / "moetrace", beside)
        failing = beside / "moetraced"
        failing.write_text("#!/bin/sh\nexit 3\n")
        failing.chmod(0o755)
        found = self.found(package=self.site)
        self.assertEqual(found["version"], "9.8.7")
        self.assertEqual(found["programs"]["moetrace"]["path"], str(beside / "moetrace"))
        problems = "\n".join(found["problems"])
        self.assertIn(f"is version {VERSION}, the package is 9.8.7", problems)
        self.assertIn(f"moetraced: {failing} --version fails: exit code 3", problems)

    def test_programs_that_are_not_there(self):
        lines = self.problems("moetrace", PATH="/nowhere")
        self.assertEqual(
            [line.partition(":")[0] for line in lines], ["moetrace", "moetraced", "moetrace-plot"]
        )

    def test_vllm(self):
        self.install("vllm", "0.99", "v1/worker/gpu/model_runner")
        (line,) = self.problems("vllm ")
        self.assertRegex(line, "^vllm 0.99 can't be traced: .* its entry point is missing; pip")
        self.install("moetrace_points", "1", points="[vllm.general_plugins]\nmoetrace = a:b\n")
        (line,) = self.problems("vllm ")
        self.assertIn("torch is not installed", line)
        self.install("torch", "2.11.0")
        adapter = self.found()["adapters"]["vllm"]
        self.assertEqual(adapter, {"version": "0.99", "binds": True, "why": None})
        (line,) = self.problems("vllm ", VLLM_PLUGINS="another")
        self.assertIn("VLLM_PLUGINS='another' leaves the plugin out", line)
        self.assertEqual(self.problems("vllm ", VLLM_PLUGINS="another,moetrace"), [])

    def test_a_vllm_of_another_shape(self):
        self.install("vllm", "0.1", "worker/model_runner")
        (line,) = self.problems("vllm ")
        self.assertIn("has none of the model runners that moetrace knows", line)

    def test_sglang(self):
        self.install("sglang", "0.5.23", "srt/managers/scheduler")
        (line,) = self.problems("sglang ")
        self.assertIn("has no sglang.srt.layers.moe.topk", line)

    def test_transformers(self):
        self.install("transformers", "5.24.0")
        self.install("torch", "2.3.1")
        (line,) = self.problems("transformers ")
        self.assertIn("torch 2.3.1 is too old; expected 2.4 or later", line)

    def test_a_folder_is_no_package(self):
        (self.folder / "vllm").mkdir()
        self.assertEqual(self.found()["adapters"]["vllm"]["why"], "not installed")

    def test_recording(self):
        for value, on in ((None, False), ("1", True), ("ON", True), ("0", False), ("off", False)):
            found = self.found(MOETRACE=value)
            self.assertEqual((value, found["recording"]["on"]), (value, on))
        (line,) = self.problems("invalid value 'maybe' for MOETRACE", MOETRACE="maybe")
        self.assertIn("recording is off", line)
        settings = self.found(MOETRACE_LAYERS="0-3")["recording"]["settings"]
        self.assertEqual(settings["MOETRACE_LAYERS"], "0-3")

    def test_rings(self):
        rings = self.found()["rings"]
        self.assertEqual((rings["directory"], rings["why"]), (str(self.folder), None))
        self.assertGreater(rings["free_mib"], 0)
        (line,) = self.problems("ring directory ", MOETRACE_DIR="/nowhere")
        self.assertIn("No such file or directory; create it", line)
        (line,) = self.problems("ring directory ", MOETRACE_DIR="/proc/self")
        self.assertRegex(line, "may not write there|MiB are free")

    def test_gpu_code_is_found_in_a_stripped_library(self):
        sys.path.insert(0, str(PACKAGE.parent))
        from moetrace import _inventory

        source = self.folder / "gpu.c"
        text = 'const char gpu_code[] __attribute__((section(".nv_fatbin"), used)) = "code";\n'
        for name, program, expected in (("with", text, True), ("without", "int x;\n", False)):
            source.write_text(program)
            library = self.folder / f"{name}.so"
            subprocess.run([os.environ["CC"], "-shared", "-s", "-o", library, source], check=True)
            self.assertEqual(_inventory.has_cuda(str(library)), expected, name)


if __name__ == "__main__":
    unittest.main(verbosity=2)
