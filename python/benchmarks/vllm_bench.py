"""What tracing costs vLLM, in time per output token and throughput, beside the alternatives.

usage: vllm_bench.py MODEL OUT [--sizes 1,25,256] [--repeats 12] [--rounds 4] [--modes off,on,...]
                     [--tokens 128] [--gpus 1]

MODEL: a Hugging Face folder; one that holds only a config.json gets random weights. `moetrace` must
be in PATH. Every round runs every mode once, each in a process of its own, in reverse order in
every other round. Each of several GPUs runs a round of its own, with the same mode at the same
time. Results are appended to OUT/bench.jsonl, and the table shows all of them: a run can be
continued, and --rounds 0 only shows the table. Exit code 1: a process failed.

  off       unmodified vLLM
  on        all layers recorded, with a collector that writes and publishes
  capture   vLLM's enable_return_routed_experts (only ids, at a request's end)
  v1        unmodified vLLM with the model runner that `capture` needs
  eager     without CUDA graphs and torch.compile, which the next two require
  json_one, json_all
            one layer's or every layer's ids and weights copied to the host and written as JSON
            lines in the process, as public patches do

The time per token of a process is the mean of the fastest third of its repeats, near their lower
mode. A mode's cost is the mean of its processes against that of the base mode on the same GPU; the
interval is Student's, 95%.
"""

import argparse
import concurrent.futures
import json
import math
import os
import pathlib
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time

V1 = {"VLLM_USE_V2_MODEL_RUNNER": "0"}
IN_PROCESS = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
MODES = {  # arguments of LLM, environment, and the base mode
    "off": ({}, {}, None),
    "on": ({}, {}, "off"),
    "v1": ({}, V1, None),
    "capture": ({"enable_return_routed_experts": True}, V1, "v1"),
    "eager": ({"enforce_eager": True}, IN_PROCESS, "off"),
    "json_one": ({"enforce_eager": True}, IN_PROCESS, "off"),
    "json_all": ({"enforce_eager": True}, IN_PROCESS, "off"),
}
STUDENT_95 = {
    1: 12.71,
    2: 4.30,
    3: 3.18,
    4: 2.78,
    5: 2.57,
    6: 2.45,
    7: 2.36,
    8: 2.31,
    9: 2.26,
    10: 2.23,
    11: 2.20,
    12: 2.18,
    13: 2.16,
    14: 2.14,
    15: 2.13,
}


class BenchError(Exception):
    """A process failed. The text names it, in one line."""


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument(
        "--sizes", default="1,25,256", type=lambda text: [int(n) for n in text.split(",")]
    )
    parser.add_argument("--repeats", default=12, type=int)
    parser.add_argument("--rounds", default=4, type=int)
    parser.add_argument("--tokens", default=128, type=int)
    parser.add_argument("--modes", default=list(MODES), type=lambda text: text.split(","))
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--gpus", default=1, type=int, choices=range(1, 17), metavar="N")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def log_in_process(llm, layers, folder):
    """Copies each routing of `layers` (None: all) to the host and writes it to a temporary file, a
    line a row, while the layer waits."""
    file = tempfile.NamedTemporaryFile("w", dir=folder, suffix=".jsonl")

    def install(model):
        for module in model.modules():
            if not hasattr(module, "router") or not hasattr(module, "layer_id"):
                continue
            if layers is None or module.layer_id in layers:
                module.router._compute_routing = wrap(
                    module.router._compute_routing, module.layer_id
                )

    def wrap(compute, layer):
        def compute_and_write(*args, **kwargs):
            weights, ids = compute(*args, **kwargs)
            for row, (i, w) in enumerate(zip(ids.cpu().tolist(), weights.cpu().tolist())):
                file.write(
                    json.dumps(
                        {
                            "type": "route",
                            "row": row,
                            "layer": layer,
                            "topk_ids": i,
                            "topk_weights": w,
                        }
                    )
                    + "\n"
                )
            return weights, ids

        return compute_and_write

    llm.apply_model(install)


def child(given):
    import vllm

    arguments, _, _ = MODES[given.child]
    rng = random.Random(1234)
    prompts = [
        {"prompt_token_ids": [rng.randrange(256) for _ in range(rng.randint(90, 200))]}
        for _ in range(max(given.sizes))
    ]
    graphs = (
        {}
        if arguments.get("enforce_eager")
        else {"cudagraph_capture_sizes": sorted({1, 2, 4, 8, *given.sizes})}
    )
    weights = "auto" if any(given.model.glob("*.safetensors")) else "dummy"
    llm = vllm.LLM(
        model=str(given.model),
        load_format=weights,
        skip_tokenizer_init=True,
        dtype=given.dtype,
        seed=1234,
        max_model_len=1024,
        gpu_memory_utilization=0.6,
        enable_prefix_caching=False,
        disable_log_stats=False,
        max_num_seqs=max(given.sizes),
        **graphs,
        **arguments,
    )
    if given.child.startswith("json"):
        log_in_process(llm, None if given.child == "json_all" else {0}, given.out)
    sampling = vllm.SamplingParams(
        temperature=0, max_tokens=given.tokens, ignore_eos=True, detokenize=False
    )
    slow = given.child == "json_all"
    machine, gpu = device()
    for size in given.sizes:
        before = announcing() if given.child == "on" else None
        for repeat in range(-1, 2 if slow else given.repeats):  # the first is a warm-up
            started = time.perf_counter()
            answers = llm.generate(prompts[:size], sampling, use_tqdm=False)
            elapsed = time.perf_counter() - started
            if repeat >= 0:
                tpot = statistics.mean(
                    (a.metrics.last_token_ts - a.metrics.first_token_ts) / (given.tokens - 1)
                    for a in answers
                )
                print(
                    "RESULT "
                    + json.dumps(
                        {
                            "mode": given.child,
                            "size": size,
                            "machine": machine,
                            "gpu": gpu,
                            "tpot_ms": 1e3 * tpot,
                            "tokens_s": size * given.tokens / elapsed,
                        }
                    ),
                    flush=True,
                )
        if before:
            steps, ns = (after - first for after, first in zip(announcing(), before))
            print(
                "RESULT "
                + json.dumps(
                    {"mode": given.child, "announced_at": size, "steps": steps, "announce_ns": ns}
                ),
                flush=True,
            )


def announcing():
    """The steps that this run's engine has announced so far, and their nanoseconds."""
    status = subprocess.run(
        ["moetrace", "status", "--json", "--session", os.environ["MOETRACE_SESSION"]],
        capture_output=True,
        check=True,
    )
    traces = json.loads(status.stdout)
    return sum(trace["steps"] for trace in traces), sum(
        trace["cost"]["announce_ns"] for trace in traces
    )


def mean_of_means(of_gpus):
    return statistics.mean(map(statistics.mean, of_gpus.values()))


def total(results, name):
    return sum(result[name] for result in results)


def device():
    """The name and the unique id of the GPU."""
    import torch

    if not torch.cuda.is_available():
        return "a CPU", platform.node()
    return torch.cuda.get_device_name(0), str(
        getattr(torch.cuda.get_device_properties(0), "uuid", platform.node())
    )


def run_mode(given, mode, number, gpu):
    """Runs one process. Returns its results, with the trace's `end` line if it was traced."""
    _, environment, _ = MODES[mode]
    command = [sys.executable, __file__, *sys.argv[1:], "--child", mode]
    trace = given.out / f"on-{number}.jsonl"
    if mode == "on":
        command = ["moetrace", "run", "-o", str(trace), "--", *command]
    env = {**os.environ, **environment, "MOETRACE": "0"}
    if given.gpus > 1:
        env["CUDA_VISIBLE_DEVICES"] = str(gpu)
        cache = os.environ.get("VLLM_CACHE_ROOT", os.path.expanduser("~/.cache/vllm"))
        env["VLLM_CACHE_ROOT"] = (
            f"{cache}/bench-{gpu}"  # two processes must not compile into one folder
        )
    with open(given.out / f"{mode}-{number}.log", "w") as log:
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=log, text=True)
        log.write(done.stdout)
    if done.returncode != 0:
        raise BenchError(f"{mode} failed with {done.returncode}; see {log.name}")
    results = [
        {**json.loads(line.removeprefix("RESULT ")), "round": number}
        for line in done.stdout.splitlines()
        if line.startswith("RESULT ")
    ]
    if mode == "on":
        results.append({"mode": "on", "round": number, "end": end_line(trace)})
        trace.unlink()
    return results


def end_line(trace):
    with open(trace, "rb") as file:
        file.seek(max(0, trace.stat().st_size - (1 << 16)))
        return json.loads(file.readlines()[-1])


def fastest_third(values):
    values = sorted(values)
    return statistics.mean(values[: max(1, len(values) // 3)])


def summary(results, given, key, better):
    """{(mode, size): {GPU: the figure of each process}}; `better`: which repeats of it count."""
    figures = {}
    for mode in given.modes:
        for size in given.sizes:
            processes = {}
            for r in results:
                if r["mode"] == mode and r.get("size") == size:
                    processes.setdefault((r.get("gpu"), r["round"]), []).append(better * r[key])
            of = figures[mode, size] = {}
            for (gpu, _), values in processes.items():
                of.setdefault(gpu, []).append(better * fastest_third(values))
    return figures


def difference(processes, base):
    """The difference to `base` in percent, with its 95% interval from the spread of like processes.
    Each GPU is compared with itself: GPUs differ by more than tracing costs."""
    gpus = sorted(set(processes) & set(base))
    if not gpus:
        return "-"
    percent = statistics.mean(
        100 * (statistics.mean(processes[gpu]) / statistics.mean(base[gpu]) - 1) for gpu in gpus
    )
    alike = [of[gpu] for of in (processes, base) for gpu in gpus]
    freedom = sum(len(group) - 1 for group in alike)
    if freedom == 0:
        return f"{percent:+.2f}%"
    squares = sum(
        (100 * (value / statistics.mean(group) - 1)) ** 2 for group in alike for value in group
    )
    error = math.sqrt(squares / freedom * sum(1 / len(group) for group in alike)) / len(gpus)
    half = STUDENT_95.get(freedom, 2.0) * error
    return f"{percent:+.2f}% [{percent - half:+.2f}, {percent + half:+.2f}]"


def table(title, figures, given, unit):
    print(f"\n{title:<52}" + "".join(f"{f'batch {size}':>30}" for size in given.sizes))
    for mode in given.modes:
        base = MODES[mode][2]
        base = base if base in given.modes else None
        cells = [
            difference(figures[mode, size], figures[base, size])
            if base
            else f"{mean_of_means(figures[mode, size]):,.3f} {unit}"
            for size in given.sizes
            if figures[mode, size]
        ]
        print(
            f"{mode + (f' against {base}' if base else ''):<52}"
            + "".join(f"{cell:>30}" for cell in cells)
        )


def main():
    given = parse()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.child:
        return child(given)
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
                        pool.submit(run_mode, given, mode, number, gpu)
                        for gpu, number in enumerate(rounds)
                    ]
                for number, process in zip(rounds, processes):
                    try:
                        got = process.result()
                    except BenchError as error:  # the other results count
                        print(f"vllm_bench: round {number}: {error}", file=sys.stderr, flush=True)
                        failed = 1
                        continue
                    results += got
                    file.writelines(json.dumps(r) + "\n" for r in got)
                    file.flush()
                    print(
                        f"round {number}: {mode}, {time.time() - started:.0f} s",
                        file=sys.stderr,
                        flush=True,
                    )
    print(", ".join(sorted({r["machine"] for r in results if "machine" in r})))
    table("ms a token", summary(results, given, "tpot_ms", 1), given, "ms")
    table("output tokens a second", summary(results, given, "tokens_s", -1), given, "/s")
    costs = [[r for r in results if r.get("announced_at") == size] for size in given.sizes]
    if any(costs):
        cells = [
            f"{total(of, 'announce_ns') / 1e3 / max(1, total(of, 'steps')):.1f} us" if of else ""
            for of in costs
        ]
        print(
            f"\n{'host time of announcing a step':<52}" + "".join(f"{cell:>30}" for cell in cells)
        )
    traced = [r["end"] for r in results if "end" in r]
    if traced:
        rows = sum(end["attempted"] for end in traced)
        lost = rows - total(traced, "delivered")
        print(f"\n{rows:,} rows announced, {lost:,} of them not delivered")
    return failed


if __name__ == "__main__":
    sys.exit(main())
