"""What tracing costs vLLM, in time per output token and throughput, beside the alternatives.

usage: vllm_bench.py MODEL OUT [options]
       vllm_bench.py --shape qwen1.5-moe|qwen3-30b-a3b|top22-of-512 OUT [options]

MODEL: a Hugging Face folder; one that holds only a config.json gets random weights. --shape makes
such a folder, OUT/SHAPE. `moetrace` and `moetraced` must be in PATH. Every round runs every mode
once, each in a process of its own, in reverse order in every other round. Each of several GPUs runs
a round of its own, with the same mode at the same time. Results are appended to OUT/bench.jsonl,
and the table shows all of them that are of this model: a run can be continued, and --rounds 0 only
shows the table. Take another OUT for other options. Exit code 1: a process failed.

  --sizes 1,25,256      decoding, at these batch sizes; none: only --prefill
  --prefill             also 96 prompts of 2,000 to 4,000 tokens, as fast as the engine can, with a
                        third of the repeats: with 48 layers a repeat makes 14 million rows
  --modes off,on,...    default: all of the list below
  --kv-blocks N         blocks of the KV cache. Without it vLLM sizes the cache by what memory is
                        free, so modes may differ in it, and with it a token's time
  --collector-args "--option value"
                        more of moetraced's options; the engine's are in the environment

  off       unmodified vLLM
  on        all layers recorded, with a collector that writes and publishes
  capture   vLLM's enable_return_routed_experts (only ids, at a request's end)
  v1        unmodified vLLM with the model runner that `capture` needs
  eager     without CUDA graphs and torch.compile, which the next two require
  json_one, json_all
            one layer's or every layer's ids and weights copied to the host and written as JSON
            lines in the process, as public patches do

The figure of a process is the mean of the best third of its repeats, near their mode; its first
repeat of each workload is a warm-up. A mode's cost is the mean of its processes against that of the
base mode on the same GPU; the interval is Student's, 95%.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import shlex
import sys
import time

import bench_collector
import bench_process
import paired_figures
import vllm_shapes
import vllm_workloads
from vllm_workloads import MODES, PREFILL


def words(text):
    return [word for word in text.split(",") if word]


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=pathlib.Path, nargs="?")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--shape", choices=vllm_shapes.SHAPES)
    parser.add_argument("--sizes", default="1,25,256", type=lambda t: [int(n) for n in words(t)])
    parser.add_argument("--prefill", action="store_true")
    parser.add_argument("--repeats", default=12, type=int)
    parser.add_argument("--rounds", default=4, type=int)
    parser.add_argument("--tokens", default=128, type=int)
    parser.add_argument("--modes", default=list(MODES), type=words)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--gpus", default=1, type=int, choices=range(1, 17), metavar="N")
    parser.add_argument("--gpu-memory", default=0.6, type=float, metavar="FRACTION")
    parser.add_argument("--kv-blocks", type=int, metavar="N")
    parser.add_argument("--collector-args", default=[], type=shlex.split, metavar="OPTIONS")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if (given.model is None) == (given.shape is None):
        parser.error("give either MODEL or --shape")
    unknown = [mode for mode in given.modes if mode not in MODES]
    if unknown:
        parser.error(f"unknown mode {unknown[0]!r}; use {', '.join(MODES)}")
    given.workloads = [*given.sizes, *([PREFILL] if given.prefill else [])]
    if not given.workloads:
        parser.error("no workload: give --sizes or --prefill")
    if given.shape:
        given.model = vllm_shapes.write(given.shape, given.out / given.shape)
    return given


def run_process(given, mode, number, gpu):
    """Runs one process. Returns its results, with the trace's `end` lines if it was traced."""
    with open(given.out / f"{mode}-{number}.log", "w") as log:
        if mode != "on":
            return run_engine(given, mode, number, gpu, log, {"MOETRACE": "0"})
        folder = given.out / f"on-{number}"
        with bench_collector.Collector(folder, given.collector_args, log) as collector:
            results = run_engine(given, mode, number, gpu, log, collector.environment)
            ends = [{"mode": mode, "end": end} for end in collector.finish()]
    return results + [{**end, "round": number, "model": str(given.model)} for end in ends]


def run_engine(given, mode, number, gpu, log, more):
    command = [sys.executable, __file__, *sys.argv[1:], "--child", mode]
    env = {**os.environ, **MODES[mode][1], **more}
    if given.gpus > 1:
        env["CUDA_VISIBLE_DEVICES"] = str(gpu)
        cache = os.environ.get("VLLM_CACHE_ROOT", os.path.expanduser("~/.cache/vllm"))
        # Two processes must not compile into one folder.
        env["VLLM_CACHE_ROOT"] = f"{cache}/bench-{gpu}"
    results = bench_process.results_of(command, env, log)
    return [{**result, "round": number, "model": str(given.model)} for result in results]


def summary(results, mode, workload, key, lower_is_better):
    """{GPU: the figure of each process}."""
    processes = {}
    for r in results:
        if r["mode"] == mode and r.get("workload") == workload and r.get(key) is not None:
            processes.setdefault((r["gpu"], r["round"]), []).append(r[key])
    of = {}
    for (gpu, _), values in processes.items():
        of.setdefault(gpu, []).append(paired_figures.best_third(values, lower_is_better))
    return of


def print_row(name, cells):
    print(f"{name:<44}" + "".join(f"{cell:>28}" for cell in cells))


def print_modes(results, given, key, lower_is_better, unit, digits):
    for mode in given.modes:
        base = MODES[mode][2] if MODES[mode][2] in given.modes else None
        cells = []
        for workload in given.workloads:
            of = summary(results, mode, workload, key, lower_is_better)
            if not of:
                cells.append("-")
            elif base:
                against = summary(results, base, workload, key, lower_is_better)
                cells.append(paired_figures.difference(of, against))
            else:
                cells.append(f"{paired_figures.mean_of_means(of):,.{digits}f}")
        print_row(f"{mode}, {unit}" if not base else f"{mode} against {base}, {unit}", cells)


def print_traced(results, given):
    """What the traced processes announced, lost and wrote, over all repeats but the warm-ups."""
    of = {w: [r for r in results if r.get("traced") == w] for w in given.workloads}
    if not any(of.values()):
        return

    def row(name, cell):
        print_row(
            name, [cell(lambda key, w=w: sum(r[key] for r in of[w])) for w in given.workloads]
        )

    row("on, rows a second", lambda n: f"{n('rows') / max(1e-9, n('seconds')):,.0f}")
    row("on, rows dropped", lambda n: f"{n('dropped'):,} of {n('rows'):,}")
    row("on, bytes a row", lambda n: f"{n('bytes') / max(1, n('rows') - n('dropped')):.1f}")
    row("on, announcing, us a step", lambda n: f"{n('announce_ns') / 1e3 / max(1, n('steps')):.1f}")


def show(results, given):
    results = [r for r in results if r.get("model") == str(given.model)]
    machines = ", ".join(sorted({r["machine"] for r in results if "machine" in r})) or "no results"
    ran = {(r["mode"], r["round"]) for r in results if "workload" in r}
    print(f"{given.model.name} on {machines}; {len(ran)} processes")
    print_row("", [w if w == PREFILL else f"batch {w}" for w in given.workloads])
    print_modes(results, given, "tpot_ms", True, "ms a token", 3)
    print_modes(results, given, "tokens_s", False, "tokens a second", 0)
    print_traced(results, given)
    ends = [r["end"] for r in results if "end" in r]
    if ends:
        rows, delivered = (sum(end[key] for end in ends) for key in ("attempted", "delivered"))
        print(f"{rows:,} rows announced, {rows - delivered:,} of them not delivered")


def main():
    given = parse()
    if given.child:
        return vllm_workloads.run(given)
    given.out.mkdir(parents=True, exist_ok=True)
    kept = given.out / "bench.jsonl"
    results = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    first = 1 + max((r["round"] for r in results), default=-1)
    failed = 0
    with open(kept, "a") as file:
        for turn in range(given.rounds):
            rounds = range(first + turn * given.gpus, first + (turn + 1) * given.gpus)
            for mode in given.modes if turn % 2 == 0 else reversed(given.modes):
                if mode not in ("off", "on") and any(r["mode"] == mode for r in results):
                    continue  # far enough from the base for one round
                started = time.time()
                with concurrent.futures.ThreadPoolExecutor(given.gpus) as pool:
                    processes = [
                        pool.submit(run_process, given, mode, number, gpu)
                        for gpu, number in enumerate(rounds)
                    ]
                for number, process in zip(rounds, processes):
                    try:
                        got = process.result()
                    except bench_process.BenchError as error:
                        # The other results count.
                        print(f"vllm_bench: round {number}: {error}", file=sys.stderr, flush=True)
                        failed = 1
                        continue
                    results += got
                    file.writelines(json.dumps(r) + "\n" for r in got)
                    file.flush()
                    took = f"round {number}: {mode}, {time.time() - started:.0f} s"
                    print(took, file=sys.stderr, flush=True)
    show(results, given)
    return failed


if __name__ == "__main__":
    sys.exit(main())
