"""Shared by the end-to-end tests: private directories, a collector, a producer, made-up logs.

The producer reads a pipe. Every test has its own directories, session and endpoints, so that tests
can run side by side. Tests wait for conditions with `wait_until`, never for a fixed time.
"""

import errno
import importlib.util
import json
import os
import pathlib
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import check_trace  # noqa: E402  (beside this file)
import two_files  # noqa: E402  (beside this file)

MOETRACED = os.environ.get("MOETRACED", "moetraced")
MOETRACE = os.environ.get("MOETRACE_CLI", "moetrace")
SUBSCRIBER = HERE.parent / "examples/subscriber.py"
# Generous, for a sanitizer build on a busy machine.
TIMEOUT_S = 120
RING_FILE = re.compile(r"moetrace\.v1\..*\.(ring|ctl)$")
NUM_EXPERTS = 60
# How the collectors of a run write rows: "json" or "arrow".
ROWS = os.environ.get("MOETRACE_TEST_ROWS", "json")
TOP_K = 4


def load_module(path):
    """A Python file that is no part of a package, as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def wait_until(holds, what, timeout_s=TIMEOUT_S):
    """The first true value of `holds()`; looks every 2 ms."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        value = holds()
        if value:
            return value
        time.sleep(0.002)
    raise AssertionError(f"{what}: not within {timeout_s} s")


def meta_line(layers, model="test/model"):
    meta = {
        "type": "meta",
        "model_id": model,
        "vllm_version": None,
        "torch_version": None,
        "device": "cpu",
        "seed": 1,
        "layers_logged": layers,
        "top_k": TOP_K,
        "num_experts": NUM_EXPERTS,
    }
    return json.dumps(meta) + "\n"


def make_steps(seed, rows, layers=(0, 1, 2, 5), requests=3, prompt=17):
    """Texts of a plain public log, one for each step.

    Up to `requests` requests are live at a time; all steps together have about `rows` routes."""
    rng = random.Random(seed)
    # Exact float32 weights, in a table: making them is most of the work.
    weights = [struct.unpack("<f", struct.pack("<f", rng.random()))[0] for _ in range(997)]
    live, begun, made = [], 0, 0
    while made < rows:
        if len(live) < requests and rng.random() < 0.5 or not live:
            live.append([f"r{begun}", 0])
            begun += 1
        tokens = []
        for request in live:
            count = prompt if request[1] == 0 else 1
            tokens += [(request[0], request[1] + n) for n in range(count)]
            request[1] += count
        lines = []
        for layer in layers:
            for request, position in tokens:
                first = rng.randrange(NUM_EXPERTS - TOP_K)
                at = rng.randrange(900)
                lines.append(
                    f'{{"type":"route","req_id":"{request}","token_idx":{position},'
                    f'"layer":{layer},"topk_ids":'
                    f"[{first},{first + 1},{first + 2},{first + 3}],"
                    f'"topk_weights":{weights[at : at + TOP_K]}}}\n'
                )
        made += len(lines)
        yield "".join(lines)
        if len(live) == requests and rng.random() < 0.02:
            live.pop(0)


def routes_in(path):
    """Rows of a trace that may still grow."""
    try:
        if ROWS == "arrow":
            return two_files.rows_in(path)
        return path.read_bytes().count(b'\n{"type":"route"')
    except FileNotFoundError:
        return 0


def rows_file(path):
    """The file of a trace that has its rows."""
    return two_files.beside(path) if ROWS == "arrow" else path


def files_of(path):
    """The one or two files of a trace."""
    return {path, rows_file(path)}


def has_torn_end(path):
    """Whether its collector died in a write."""
    if ROWS == "arrow":
        said = two_files.last_rows_line(path)
        return rows_file(path).stat().st_size != (said["bytes"] if said else 0)
    return not path.read_bytes().endswith(b"\n")


class Collector:
    """A moetraced. After construction it is ready."""

    def __init__(self, case, *arguments, publish="none", directory=None, session=None, env=None):
        ready, write_end = os.pipe()
        self.errors = case.folder / f"moetraced.{next(case.numbers)}.err"
        command = [
            MOETRACED,
            "--directory",
            directory or case.rings,
            "--session",
            session or case.session,
            *(["--publish", publish] if publish else []),
            *(["--rows", "arrow"] if ROWS == "arrow" else []),
            "--ready-fd",
            str(write_end),
            *arguments,
        ]
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                list(map(str, command)),
                pass_fds=[write_end],
                stdin=subprocess.DEVNULL,
                stderr=errors,
                env={**case.env, **(env or {})},
            )
        os.close(write_end)
        with os.fdopen(ready) as pipe:
            line = pipe.readline()
        case.collectors.append(self)
        if not line.startswith("ready"):
            raise AssertionError(f"the collector did not get ready: {self.stderr()}")

    def stderr(self):
        return self.errors.read_text()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT_S)

    def wait(self):
        return self.process.wait(TIMEOUT_S)


class Replay:
    """`moetrace replay` of a file, or of the text that `feed` sends through a pipe until `wait`."""

    def __init__(self, case, source=None, *, rate=None, session=None, env=None):
        number = next(case.numbers)
        self.source = source
        self.fed = None
        if source is None:
            source = case.folder / f"feed.{number}"
            os.mkfifo(source)
        self.errors = case.folder / f"replay.{number}.err"
        command = [MOETRACE, "replay", *(["--rate", str(rate)] if rate else []), source]
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                list(map(str, command)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={**case.env, "MOETRACE_SESSION": session or case.session, **(env or {})},
            )
        case.replays.append(self)
        if self.source is None:
            self.fed = os.fdopen(
                wait_until(lambda: self.open_feed(source), "the replay does not open its file"), "w"
            )

    def open_feed(self, fifo):
        """The pipe's writing end; 0 until the replay has opened the other end."""
        if self.process.poll() is not None:
            raise AssertionError(f"the replay ended: {self.stderr()}")
        try:
            descriptor = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return 0
        os.set_blocking(descriptor, True)
        return descriptor

    def feed(self, text):
        self.fed.write(text)
        self.fed.flush()

    def stderr(self):
        return self.errors.read_text()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def wait(self):
        """Ends the feed; returns the exit code."""
        if self.fed:
            self.fed.close()
            self.fed = None
        return self.process.wait(TIMEOUT_S)


class Case(unittest.TestCase):
    """A test with its own folders. `rings` is on /dev/shm, as a ring directory should be."""

    def setUp(self):
        self.folder = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory(prefix="moetrace-test."))
        )
        self.rings = pathlib.Path(
            self.enterContext(tempfile.TemporaryDirectory(prefix="moetrace-test.", dir="/dev/shm"))
        )
        self.traces = self.folder / "traces"
        self.session = "test"
        self.env = {
            name: value for name, value in os.environ.items() if not name.startswith("MOETRACE_")
        }
        self.env.update(
            MOETRACE_DIR=str(self.rings),
            MOETRACE_SESSION=self.session,
            XDG_RUNTIME_DIR=str(self.folder),
        )
        self.numbers = iter(range(1_000_000))
        self.collectors, self.replays = [], []
        self.addCleanup(self.end_processes)

    def end_processes(self):
        for child in self.collectors + self.replays:
            if child.process.poll() is None:
                child.kill()
        for replay in self.replays:
            if replay.fed:
                try:
                    replay.fed.close()
                except BrokenPipeError:
                    pass

    def start_collector(self, *arguments):
        return Collector(self, "--output-dir", self.traces, *arguments)

    def start_fed(self, first_rows=2_000, seed=1, **how):
        """A live trace; its first rows are in the file."""
        known = set(self.trace_files())
        replay = Replay(self, **how)
        replay.feed(meta_line([0, 1, 2, 5]))
        [path] = wait_until(lambda: set(self.trace_files()) - known, "no trace file")
        steps = list(make_steps(seed, first_rows))
        for step in steps:
            replay.feed(step)
        wait_until(lambda: routes_in(path) > 0, "no rows")
        return replay, path

    def refused(self, *arguments, directory=None, **how):
        """Runs a collector that must not start; returns its one line."""
        result = subprocess.run(
            [MOETRACED, "--directory", directory or self.rings, *map(str, arguments)],
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            **how,
        )
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stderr, r"\Amoetraced: [^\n]+; [^\n]+\n\Z")
        return result.stderr

    def segment_files(self):
        return sorted(name for name in os.listdir(self.rings) if RING_FILE.search(name))

    def trace_ids(self, session=None):
        prefix = f"moetrace.v1.{session or self.session}."
        return [
            name[len(prefix) : -len(".ring")]
            for name in self.segment_files()
            if name.startswith(prefix) and name.endswith(".ring")
        ]

    def wait_drained(self):
        """Waits until every segment has ended and is removed."""
        wait_until(lambda: not self.segment_files(), f"segments left: {self.segment_files()}")

    def status(self):
        """What `moetrace status` says of each live trace."""
        done = subprocess.run(
            [MOETRACE, "status", "--json", "--session", self.session],
            env=self.env,
            check=True,
            capture_output=True,
            text=True,
        )
        return json.loads(done.stdout)

    def wait_emptied(self):
        """Waits until every ring is empty: a collector frees a slot once its row is in the file."""
        wait_until(
            lambda: not any(trace["ring_fill_percent"] for trace in self.status()),
            "rings are not empty",
        )

    def trace_files(self):
        """The lines of each trace whose files are there: the rows file is made after the lines."""
        return sorted(path for path in self.traces.glob("*.jsonl") if rows_file(path).exists())

    def run_until_moment(self, at_most_s):
        """The only sleep: a test that kills needs a random moment, by its `rng`."""
        time.sleep(self.rng.random() * at_most_s)

    def lines_of_trace(self):
        """The lines of the only trace, checked, once it has ended."""
        self.wait_drained()
        [path] = self.trace_files()
        self.check(path)
        return [json.loads(line) for line in path.read_text().splitlines()]

    def write_log(self, seed, rows, name="source.jsonl", **shape):
        path = self.folder / name
        with path.open("w") as file:
            file.write(meta_line(sorted(shape.get("layers", (0, 1, 2, 5)))))
            file.writelines(make_steps(seed, rows, **shape))
        return path

    def check(self, path, source=None, **how):
        if two_files.is_apart(path):
            # It needs packages that an engine's environment may lack.
            import arrow_rows

            merged = self.folder / f"merged.{next(self.numbers)}.jsonl"
            arrow_rows.write_merged(path, merged)
            path = merged
        try:
            return check_trace.check_file(path, source, **how)
        except check_trace.Wrong as wrong:
            lines = path.read_bytes().splitlines()
            at = (
                int(re.search(r"line (\d+)", str(wrong)).group(1))
                if "line " in str(wrong)
                else len(lines)
            )
            near = b"\n".join(lines[max(0, at - 4) : at + 1]).decode(errors="replace")
            self.fail(f"{path.name}: {wrong}\n{near}")
