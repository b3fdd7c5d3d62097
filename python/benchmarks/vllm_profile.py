"""Where the time of a decoded token goes, at batch 1: vLLM on a GPU without and with tracing.

usage: vllm_profile.py MODEL OUT | --shape SHAPE OUT  [--modes off,on,...] [--rounds 2]

MODEL, SHAPE, OUT, --kv-blocks: as for vllm_bench.py. Every mode runs in a process of its own, with
vLLM's engine inside it. Prints one table, a column a mode (medians of the processes), then the
kernels. What fails is named, and the rest still printed. Exit code 1: something failed.

  off, on     as in vllm_bench.py
  count       MOETRACE_SAMPLE=0: rows are counted and not recorded
  stopped     `moetrace stop` before the first measured token
  branch      no moetrace: a trivial kernel on a side stream, forked at the last layer's router and
              joined after its experts, as the hook does
  inline      no moetrace: the same kernel in the engine's own stream
  alive       no moetrace: the ids and weights of all layers are kept until the pass ends, as the
              hook keeps them, and nothing reads them
  graphs      no vLLM: graphs of trivial kernels, as many as the model has, in one line, with such a
              branch, and with such a kernel in line

The times under "undisturbed" come from vLLM's own clock; those under "events" from a CUDA event
before and after each replay of a graph; those under "profiler" from torch.profiler, which slows the
graph's launch and each of its kernels down: compare them with one another only.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import time
import traceback

import bench_collector
import bench_process
import gpu_graphs
import gpu_timeline
import vllm_shapes
import vllm_workloads
from bench_process import say

TRACED = ("on", "count", "stopped")
MODES = ("off", "on", "count", "stopped", "branch", "inline", "alive", "graphs")
KERNELS = 15
WARM_TOKENS = 16


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=pathlib.Path, nargs="?")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--shape", choices=vllm_shapes.SHAPES)
    parser.add_argument("--modes", default=list(MODES), type=lambda text: text.split(","))
    parser.add_argument("--rounds", default=2, type=int)
    parser.add_argument("--repeats", default=12, type=int)
    parser.add_argument("--tokens", default=128, type=int)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--gpu-memory", default=0.6, type=float, metavar="FRACTION")
    parser.add_argument("--kv-blocks", type=int, metavar="N")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if (given.model is None) == (given.shape is None):
        parser.error("give either MODEL or --shape")
    unknown = [mode for mode in given.modes if mode not in MODES]
    if unknown:
        parser.error(f"unknown mode {unknown[0]!r}; use {', '.join(MODES)}")
    given.workloads = [1]
    if given.shape:
        given.model = vllm_shapes.write(given.shape, given.out / given.shape)
    return given


def attempt(what, function, *arguments):
    """Prints the failure of a part, so that the others still run."""
    try:
        return function(*arguments)
    except Exception as error:
        traceback.print_exc()
        say(failed=f"{what}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")


class Watch:
    """What each decoded token takes on the host, and when its graph runs on the GPU."""

    def __init__(self):
        self.on = False
        self.clear()

    def clear(self):
        self.events, self.replay_ns, self.follow_ns, self.announce_ns = [], [], [], []

    def replays(self):
        import torch

        original = torch.cuda.CUDAGraph.replay

        def replay(graph):
            if not self.on:
                return original(graph)
            before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            before.record()
            started = time.perf_counter_ns()
            original(graph)
            self.replay_ns.append(time.perf_counter_ns() - started)
            after.record()
            self.events.append((before, after))

        torch.cuda.CUDAGraph.replay = replay

    def announcements(self):
        from moetrace.vllm._runner_tracer import RunnerTracer

        for name, times in (("follow", "follow_ns"), ("announce", "announce_ns")):
            setattr(RunnerTracer, name, self._timed(getattr(RunnerTracer, name), times))

    def _timed(self, original, times):
        def timed(*arguments):
            started = time.perf_counter_ns()
            try:
                return original(*arguments)
            finally:
                if self.on:
                    getattr(self, times).append(time.perf_counter_ns() - started)

        return timed


def keep_alive():
    """Binds all MoE layers of a model that vLLM loads from now on."""
    from moetrace.vllm import _layers

    def bind(model):
        layers, _ = _layers.find(model, False)
        kept = []
        for layer in layers[:-1]:
            layer.bind(lambda _layer, ids, weights: kept.append((ids, weights)), None)
        layers[-1].bind(lambda _layer, ids, weights: kept.append((ids, weights)), kept.clear)

    when_loaded(bind)


def when_loaded(bind):
    """Calls `bind` with each model that vLLM loads from now on."""
    from vllm.v1.worker import gpu_model_runner
    from vllm.v1.worker.gpu import model_runner

    def wrap(cls):
        original = cls.load_model

        def load_model(runner, *arguments, **options):
            result = original(runner, *arguments, **options)
            bind(runner.get_model())
            return result

        cls.load_model = load_model

    for cls in {gpu_model_runner.GPUModelRunner, model_runner.GPUModelRunner}:
        wrap(cls)


def add_kernel(branch):
    """Binds the last MoE layer of a model that vLLM loads from now on: a trivial kernel, in line or
    on a branch, where the hook has its own."""
    import torch
    from moetrace.vllm import _layers

    def bind(model):
        layers, _ = _layers.find(model, False)
        scratch = torch.zeros(32, device="cuda")
        side = torch.cuda.Stream()

        def record(_layer, _ids, _weights):
            if not branch:
                scratch.add_(1)
                return
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                scratch.add_(1)

        def join():
            if branch:
                torch.cuda.current_stream().wait_stream(side)

        layers[-1].bind(record, join)
        print(f"bound layer {layers[-1].number} of {len(layers)}", file=sys.stderr)

    when_loaded(bind)


def undisturbed(llm, prompts, given):
    times = [vllm_workloads.generate(llm, prompts, given.tokens)[1] for _ in range(given.repeats)]
    say(
        undisturbed={
            "ms a token, median": statistics.median(times[1:]),
            "ms a token, best": min(times[1:]),
        }
    )


def with_events(llm, prompts, given, watch):
    import torch

    watch.clear()
    watch.on = True
    vllm_workloads.generate(llm, prompts, given.tokens)
    watch.on = False
    torch.cuda.synchronize()
    events = watch.events[WARM_TOKENS:]
    inside = [before.elapsed_time(after) for before, after in events]
    between = [one[1].elapsed_time(next[0]) for one, next in zip(events, events[1:])]
    period = [one[0].elapsed_time(next[0]) for one, next in zip(events, events[1:])]
    say(
        events={
            "graph replays a token": len(watch.events) / given.tokens,
            "us from graph to graph": 1e3 * statistics.median(period),
            "us inside a replay, on the GPU": 1e3 * statistics.median(inside),
            "us between two replays, on the GPU": 1e3 * statistics.median(between),
            "us of host time in replay()": statistics.median(watch.replay_ns) / 1e3,
        }
    )
    if watch.announce_ns:
        say(
            host={
                "us in announce()": statistics.median(watch.announce_ns) / 1e3,
                "us in follow()": statistics.median(watch.follow_ns) / 1e3,
            }
        )


def with_profiler(llm, prompts, given):
    import torch

    tokens = min(given.tokens, 64)
    path = given.out / f"timeline-{given.child}-{os.getpid()}.json"
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        vllm_workloads.generate(llm, prompts, tokens)
    profile.export_chrome_trace(str(path))
    figures, kernels = gpu_timeline.read(path, tokens, WARM_TOKENS)
    say(profiler=figures)
    say(kernels=kernels)


def child(given):
    import torch

    if given.child == "graphs":
        layers = json.loads((given.model / "config.json").read_text())["num_hidden_layers"]
        for name, figures in gpu_graphs.measure(kernels=11 * layers):
            say(graph=name, figures=figures)
        return
    watch = Watch()
    if torch.cuda.is_available():
        attempt("timing replays", watch.replays)
    if given.child in TRACED:
        attempt("timing announcements", watch.announcements)
    if given.child in ("branch", "inline"):
        add_kernel(given.child == "branch")
    if given.child == "alive":
        keep_alive()
    llm = vllm_workloads.make_engine(given, {})
    scheduler = llm.llm_engine.vllm_config.scheduler_config
    print(f"asynchronous scheduling: {scheduler.async_scheduling}", file=sys.stderr)
    prompts, _ = vllm_workloads.prompts_of(1, given)
    vllm_workloads.generate(llm, prompts, given.tokens)
    if given.child == "stopped":
        bench_collector.command("stop")
    attempt("undisturbed", undisturbed, llm, prompts, given)
    attempt("events", with_events, llm, prompts, given, watch)
    attempt("profiler", with_profiler, llm, prompts, given)


def run_process(given, mode, number):
    command = [sys.executable, __file__, *sys.argv[1:], "--child", mode]
    env = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "MOETRACE": "0"}
    with open(given.out / f"profile-{mode}-{number}.log", "w") as log:
        if mode not in TRACED:
            return bench_process.results_of(command, env, log)
        if mode == "count":
            env["MOETRACE_SAMPLE"] = "0"
        with bench_collector.Collector(given.out / f"profile-{number}", [], log) as collector:
            results = bench_process.results_of(command, {**env, **collector.environment}, log)
            for end in collector.finish():
                rows = {"rows announced": end["attempted"], "delivered": end["delivered"]}
                results.append({"trace": rows})
            return results


def show(results, modes):
    """results: {mode: [results of each process]}."""

    def row(name, cells):
        print(f"{name:<58}" + "".join(f"{cell:>12}" for cell in cells))

    modes = [mode for mode in modes if mode != "graphs" and results.get(mode)]
    row("batch 1", modes)
    for part in ("undisturbed", "events", "host", "profiler", "trace"):
        got = {mode: [r[part] for r in results[mode] if part in r] for mode in modes}
        for name in dict.fromkeys(name for of in got.values() for one in of for name in one):
            values = [[one[name] for one in got[mode] if name in one] for mode in modes]
            digits = 4 if name.startswith("ms") else 1
            row(
                f"{part}: {name}",
                [f"{statistics.median(of):,.{digits}f}" if of else "-" for of in values],
            )
    kernels = {mode: [r["kernels"] for r in results[mode] if "kernels" in r][:1] for mode in modes}
    tables = {mode: of[0] for mode, of in kernels.items() if of}
    for mode, table in tables.items():
        print(f"\n{mode}: kernels, us a token, number a token, stream")
        for name, us, count, stream in table[:KERNELS]:
            print(f"  {us:9.1f} {count:7.1f}  {stream:>4}  {name[:100]}")
        for name, us, count, stream in table[KERNELS:]:
            if "moetrace" in name:
                print(f"  {us:9.1f} {count:7.1f}  {stream:>4}  {name[:100]}")


def main():
    given = parse()
    if given.child:
        return child(given)
    given.out.mkdir(parents=True, exist_ok=True)
    results, failed = {}, 0
    for number in range(given.rounds):
        for mode in given.modes if number % 2 == 0 else reversed(given.modes):
            if mode == "graphs" and number > 0:
                continue
            started = time.time()
            try:
                got = run_process(given, mode, number)
            except Exception as error:
                print(f"vllm_profile: round {number}: {mode}: {error}", file=sys.stderr, flush=True)
                failed = 1
                continue
            results.setdefault(mode, []).extend(got)
            for r in got:
                if "failed" in r:
                    print(f"vllm_profile: {mode}: {r['failed']}", file=sys.stderr)
                    failed = 1
            took = f"round {number}: {mode}, {time.time() - started:.0f} s"
            print(took, file=sys.stderr, flush=True)
    show(results, given.modes)
    for r in results.get("graphs", []):
        if "graph" in r:
            print(f"\n{r['graph']}: " + ", ".join(f"{k} {v:.2f}" for k, v in r["figures"].items()))
    return failed


if __name__ == "__main__":
    sys.exit(main())
