"""How long a row takes from its commit in the ring to a subscriber in another process, decoded.

Prints a table: percentiles over all rows after the first second, for topic `rows` (columns) beside
topic `route` (the same rows as JSON lines), what was missed and dropped, and the collector's use of
a core; then the collector's use of a core when nobody subscribes, and when the engine is idle.

    latency_bench.py [--seconds 8] [--rows json|arrow] [--topics rows,route,none] [--cases NAME,...]

A process of its own plays the engine on the CPU: it sleeps between the layers of a step, and notes
the time just before each call that records a layer. moetraced runs with its defaults and writes to
tmpfs. This process subscribes with `moetrace.stream`; a row has come when its batch is in numpy
arrays. A row that arrives while the machine does other things counts like every other.

moetraced and moetrace must be in PATH, MOETRACE_LIBRARY and MOETRACE_READER_LIBRARY name the
libraries, the package is on PYTHONPATH; or install the wheel.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import moetrace
import numpy
from bench_collector import Collector
from bench_process import BenchError
from read_bench import cpu

EXPERTS, TOP_K = 128, 8
WARM_UP_S = 1.0
PATIENCE_S = 60.0


class Case(NamedTuple):
    layers: int
    rows: int  # of a step: the batch
    step_ms: float

    @property
    def rate(self):
        return self.layers * self.rows / self.step_ms * 1000


CASES = {
    "batch 1": Case(48, 1, 5),
    "batch 32": Case(24, 32, 10),
    "batch 256": Case(24, 256, 25),
    "100,000 rows a second": Case(24, 25, 6),
}


def play_engine(case, seconds, stamps):
    """The producer: waits for a line on stdin, then decodes. Writes the time before each call that
    records a layer, int64 [steps, layers], by the monotonic clock."""
    rng = numpy.random.default_rng(1)
    ids = rng.integers(0, EXPERTS, (64, case.rows, TOP_K), "int32")
    weights = rng.random((64, case.rows, TOP_K), "float32")
    steps = int(seconds * 1000 / case.step_ms)
    times = numpy.zeros((steps, case.layers), "int64")
    layer_s = case.step_ms / 1000 / case.layers
    with moetrace.Producer(num_layers=case.layers, num_experts=EXPERTS, top_k=TOP_K) as producer:
        requests = [producer.request(f"request-{n}", prompt_tokens=1) for n in range(case.rows)]
        sys.stdin.readline()
        due = time.monotonic()
        for step in range(steps):
            producer.step(case.rows, [(r, step, n, 1) for n, r in enumerate(requests)])
            for layer in range(case.layers):
                due += layer_s
                late = due - time.monotonic()
                if late > 0:
                    time.sleep(late)
                at = (step + layer) % 64
                times[step, layer] = time.monotonic_ns()
                producer.record(layer, ids[at], weights[at])
        for request in requests:
            request.end(steps, "length")
    numpy.save(stamps, times)


class Result(NamedTuple):
    latencies: numpy.ndarray  # of rows, in ms; empty without a subscriber
    missed: int
    dropped: int
    collector: float  # of a core


def measure(case, topic, options, folder, log):
    """Runs collector, producer and, unless `topic` is "none", a subscriber."""
    endpoint = f"ipc://{folder}/pub"
    stamps = folder / "stamps.npy"
    arguments = ["--rows", options.rows] if options.rows != "json" else []
    with Collector(folder / "traces", [*arguments, "--publish", endpoint], log) as collector:
        engine = subprocess.Popen(
            [
                *(sys.executable, "-B", __file__, "--engine"),
                *map(str, (*case, options.seconds, stamps)),
            ],
            env={**os.environ, **collector.environment},
            stdin=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            came, missed, used = receive(topic, endpoint, engine, collector, options.seconds)
            engine.wait(PATIENCE_S)
        finally:
            engine.kill()
            engine.wait()
        if engine.returncode != 0:
            raise BenchError(f"the engine failed; see {log.name}")
        [end] = collector.finish()
    times = numpy.load(stamps)
    if topic == "none":
        return Result(numpy.zeros(0), 0, end["dropped"], used)
    first = times[0, 0] + int(WARM_UP_S * 1e9)
    latencies = []
    for arrived, step, layer in came:
        sent = times[step, layer]
        latencies.append((arrived - sent)[sent >= first] / 1e6)
    return Result(numpy.concatenate(latencies), missed, end["dropped"], used)


def receive(topic, endpoint, engine, collector, seconds):
    """[(arrived, step, layer)] by batch, the rows that were missed, and the collector's use of a
    core while the engine decoded."""
    if topic == "none":
        deadline = time.monotonic() + PATIENCE_S
        while not list(collector.folder.glob("*.jsonl")):
            if time.monotonic() > deadline:
                raise BenchError("no trace began")
            time.sleep(0.01)
        start(engine)
        return [], 0, collector.use_during(seconds)
    came = []
    with moetrace.stream(endpoint, timeout=PATIENCE_S, topic=topic) as stream:
        stream.timeout = 0.05
        deadline = time.monotonic() + PATIENCE_S
        while not stream.traces:  # the meta line
            for _ in stream:
                break
            if time.monotonic() > deadline:
                raise BenchError("no trace was published")
        stream.timeout = PATIENCE_S
        before, since = collector.cpu_seconds(), time.monotonic()
        start(engine)
        [trace] = stream.traces.values()
        missed = 0
        for batch in stream:
            arrived = time.monotonic_ns()
            if len(batch) == 0:
                break
            if not came:  # the subscription to its topic may begin a moment after that to `meta`
                missed = trace.rows_missed
            came.append((arrived, batch.step, batch.layer))
        used = (collector.cpu_seconds() - before) / (time.monotonic() - since)
        if trace.end is None:
            raise BenchError("the trace has not ended")
        return came, trace.rows_missed - missed, used


def start(engine):
    engine.stdin.write("\n")
    engine.stdin.flush()


def idle(topic, options, folder, log):
    """The collector's use of a core beside an engine that does nothing."""
    endpoint = f"ipc://{folder}/pub"
    with Collector(folder / "traces", ["--publish", endpoint], log) as collector:
        os.environ.update(collector.environment)
        with moetrace.Producer(num_layers=24, num_experts=EXPERTS, top_k=TOP_K):
            if topic == "none":
                time.sleep(1)
                return collector.use_during(options.seconds)
            with moetrace.stream(endpoint, timeout=1.0, topic=topic) as stream:
                for _ in stream:
                    pass
                return collector.use_during(options.seconds)


def machine():
    load = os.getloadavg()[0]
    return f"{cpu()}, {os.cpu_count()} cores, load {load:.1f} before the run"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=8, help="of each measurement (8)")
    parser.add_argument("--rows", choices=("json", "arrow"), default="json", help="as of moetraced")
    parser.add_argument("--topics", default="rows,route,none")
    parser.add_argument("--cases", default=",".join(CASES).replace("100,000", "100000"))
    options = parser.parse_args()
    if options.seconds < 2 * WARM_UP_S:
        parser.error(f"--seconds must be at least {2 * WARM_UP_S:g}")
    cases = {name.replace(",", ""): name for name in CASES}
    wanted, topics = options.cases.split(","), options.topics.split(",")
    for name in wanted:
        if name not in cases:
            parser.error(f"no case {name!r}; use {', '.join(cases)}")
    for topic in topics:
        if topic not in ("rows", "route", "none"):
            parser.error(f"no topic {topic!r}; use rows, route, none")
    with tempfile.TemporaryDirectory(prefix="moetrace-bench.", dir="/dev/shm") as folder:
        folder = pathlib.Path(folder)
        with tempfile.NamedTemporaryFile("w", suffix=".log", delete=False) as log:
            print(f"**Machine:** {machine()}. Files: `--rows {options.rows}`, on tmpfs.\n")
            print(
                "| engine on a CPU, top-8 | topic | p50 ms | p99 | p99.9 | missed | dropped | "
                "collector |\n|---|---|---|---|---|---|---|---|"
            )
            try:
                for name in (cases[name] for name in wanted):
                    for topic in topics:
                        result = measure(CASES[name], topic, options, folder, log)
                        show(CASES[name], name, topic, result)
                for topic in topics:
                    used = idle(topic, options, folder, log)
                    print(f"| idle | {topic} | - | - | - | - | - | {used:.1%} |", flush=True)
            except (BenchError, moetrace.ReadError) as error:
                sys.exit(f"latency_bench: {error}")
        os.unlink(log.name)


def show(case, name, topic, result):
    name = f"{name}, {case.layers} layers in {case.step_ms:g} ms ({case.rate:,.0f} rows/s)"
    p50, p99, p999 = ("-",) * 3
    missed = "-"
    if len(result.latencies):
        p50, p99, p999 = (
            f"{value:.2f}" for value in numpy.percentile(result.latencies, (50, 99, 99.9))
        )
        missed = result.missed
    print(
        f"| {name} | {topic} | {p50} | {p99} | {p999} | {missed} | {result.dropped} | "
        f"{result.collector:.1%} |",
        flush=True,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--engine"]:
        layers, rows, step_ms, seconds, stamps = sys.argv[2:]
        play_engine(Case(int(layers), int(rows), float(step_ms)), float(seconds), stamps)
    else:
        main()
