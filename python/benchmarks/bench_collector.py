"""A collector of a benchmark's own: private rings, one folder of traces, and what it has done."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

from bench_process import BenchError


def _program(name):
    found = shutil.which(name)
    if not found:
        raise BenchError(f"{name} is not in PATH; install the wheel, or add build/*/bin")
    return found


class Collector:
    """A moetraced from construction to `close`, which removes its rings. Use it with `with`.

    folder: where the traces go; made, and emptied first. arguments: more of moetraced's options.
    """

    def __init__(self, folder, arguments, log):
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shared = "/dev/shm" if os.path.isdir("/dev/shm") else None
        self._rings = tempfile.mkdtemp(prefix="moetrace-bench.", dir=shared)
        self.session = pathlib.Path(self._rings).name.replace(".", "-")
        self.environment = {
            "MOETRACE": "1",
            "MOETRACE_DIR": self._rings,
            "MOETRACE_SESSION": self.session,
            "MOETRACE_BENCH_TRACES": str(folder),
        }
        ready, write_end = os.pipe()
        command = [
            *(_program("moetraced"), "--directory", self._rings, "--session", self.session),
            *("--output-dir", str(folder), "--ready-fd", str(write_end), *arguments),
        ]
        self._process = subprocess.Popen(command, pass_fds=[write_end], stderr=log)
        os.close(write_end)
        with os.fdopen(ready) as pipe:
            if not pipe.readline().startswith("ready"):
                self._remove()
                raise BenchError(f"moetraced did not start; see {log.name}")

    def finish(self, timeout_s=300):
        """Waits until all rings are drained; the `end` line of each trace.

        Raises BenchError after `timeout_s`, and if there is no trace.
        """
        deadline = time.monotonic() + timeout_s
        while any(pathlib.Path(self._rings).glob("moetrace.v1.*.ring")):
            if self._process.poll() is not None:
                raise BenchError(f"moetraced ended with {self._process.returncode}")
            if time.monotonic() > deadline:
                raise BenchError(f"a ring is not drained after {timeout_s} s")
            time.sleep(0.05)
        ends = [_last_line(path) for path in sorted(self.folder.glob("*.jsonl"))]
        if not ends:
            raise BenchError("no trace was made; does VLLM_PLUGINS leave moetrace out?")
        return ends

    def cpu_seconds(self):
        """Processor time of all its threads so far."""
        fields = pathlib.Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2]
        user, system = fields.split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def use_during(self, seconds):
        """How much of a core it uses in this time: 1 is all of it."""
        before = self.cpu_seconds()
        time.sleep(seconds)
        return (self.cpu_seconds() - before) / seconds

    def _remove(self):
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self._rings, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._remove()
        shutil.rmtree(self.folder, ignore_errors=True)  # gigabytes


def _last_line(path):
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 16)))
        return json.loads(file.readlines()[-1])


def command(*words):
    """Runs `moetrace WORDS` on the rings of the collector that the environment names."""
    session = os.environ["MOETRACE_SESSION"]
    done = subprocess.run(
        [_program("moetrace"), *words, "--session", session], capture_output=True, text=True
    )
    if done.returncode != 0:
        raise BenchError(f"moetrace {words[0]}: {done.stderr.strip()}")
    return done.stdout


def drained(timeout_s=60):
    """For the traced process: waits until the collector has taken all rows and its files have
    stopped growing. The counters so far, of all traces: steps, rows, dropped, bytes, announce_ns.
    """
    folder = pathlib.Path(os.environ["MOETRACE_BENCH_TRACES"])
    deadline = time.monotonic() + timeout_s
    before = None
    while True:
        traces = json.loads(command("status", "--json"))
        sizes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        pending = sum(trace["recorded"] - trace["consumed"] for trace in traces)
        if (pending == 0 and before == sizes) or time.monotonic() > deadline:
            break
        before = sizes
        time.sleep(1)
    return {
        "steps": sum(trace["steps"] for trace in traces),
        "rows": sum(trace["attempted"] for trace in traces),
        "dropped": sum(trace["dropped"] + trace["event_lost"] for trace in traces),
        "bytes": sizes,
        "announce_ns": sum(trace["cost"]["announce_ns"] for trace in traces),
    }
