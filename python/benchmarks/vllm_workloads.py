"""The process of vllm_bench.py that runs vLLM: one mode, all workloads."""

import json
import platform
import random
import statistics
import tempfile
import time

import bench_collector
import vllm_shapes
from bench_process import say

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
PREFILL = "prefill"  # beside the batch sizes of decoding
PREFILL_PROMPTS = 96
PREFILL_TOKENS = (2000, 4000)
PREFILL_TOKENS_A_STEP = 8192


def run(given):
    llm = make_engine(given, MODES[given.child][0])
    if given.child.startswith("json"):
        log_in_process(llm, None if given.child == "json_all" else {0}, given.out)
    machine, gpu = device()
    for workload in given.workloads:
        prompts, tokens = prompts_of(workload, given)
        repeats = 2 if given.child == "json_all" else given.repeats
        if workload == PREFILL:
            repeats = max(2, repeats // 3)  # each writes gigabytes
        began, seconds = None, 0.0
        for repeat in range(-1, repeats):  # the first is a warm-up, and counts nowhere
            elapsed, tpot_ms = generate(llm, prompts, tokens)
            if repeat < 0:
                began = bench_collector.drained() if given.child == "on" else None
                continue
            seconds += elapsed
            done = len(prompts) * tokens
            if workload == PREFILL:
                done = sum(len(prompt["prompt_token_ids"]) for prompt in prompts)
            say(
                mode=given.child,
                workload=workload,
                machine=machine,
                gpu=gpu,
                tpot_ms=tpot_ms,
                tokens_s=done / elapsed,
            )
        if began:
            ended = bench_collector.drained()
            counted = {name: ended[name] - began[name] for name in ended}
            say(mode=given.child, traced=workload, seconds=seconds, **counted)


def make_engine(given, arguments):
    """An engine for given.workloads. arguments: more of LLM's."""
    import vllm

    arguments = dict(arguments)
    sizes = [n for n in given.workloads if n != PREFILL]
    if not arguments.get("enforce_eager"):
        arguments["cudagraph_capture_sizes"] = sorted({1, 2, 4, 8, *sizes})
    if PREFILL in given.workloads:
        arguments["max_num_batched_tokens"] = PREFILL_TOKENS_A_STEP
    if given.kv_blocks:
        arguments["num_gpu_blocks_override"] = given.kv_blocks
    return vllm.LLM(
        model=str(given.model),
        load_format="auto" if any(given.model.glob("*.safetensors")) else "dummy",
        skip_tokenizer_init=True,
        dtype=given.dtype,
        seed=1234,
        max_model_len=PREFILL_TOKENS[1] + 8 if PREFILL in given.workloads else 1024,
        gpu_memory_utilization=given.gpu_memory,
        enable_prefix_caching=False,
        disable_log_stats=False,
        max_num_seqs=max([*sizes, PREFILL_PROMPTS if PREFILL in given.workloads else 1]),
        **arguments,
    )


def prompts_of(workload, given):
    """The prompts of a workload, and the number of tokens to generate after each."""
    rng = random.Random(1234)
    if workload == PREFILL:
        count, lengths, tokens = PREFILL_PROMPTS, PREFILL_TOKENS, 1
    else:
        count, lengths, tokens = workload, (90, 200), given.tokens
    ids = vllm_shapes.vocabulary(given.model)
    return [
        {"prompt_token_ids": [rng.randrange(ids) for _ in range(rng.randint(*lengths))]}
        for _ in range(count)
    ], tokens


def generate(llm, prompts, tokens):
    """Seconds, and the mean milliseconds a token after a request's first one (None: only one)."""
    import vllm

    sampling = vllm.SamplingParams(
        temperature=0, max_tokens=tokens, ignore_eos=True, detokenize=False
    )
    started = time.perf_counter()
    answers = llm.generate(prompts, sampling, use_tqdm=False)
    elapsed = time.perf_counter() - started
    if tokens == 1:
        return elapsed, None
    return elapsed, 1e3 * statistics.mean(
        (a.metrics.last_token_ts - a.metrics.first_token_ts) / (tokens - 1) for a in answers
    )


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
                line = dict(type="route", row=row, layer=layer, topk_ids=i, topk_weights=w)
                file.write(json.dumps(line) + "\n")
            return weights, ids

        return compute_and_write

    llm.apply_model(install)


def device():
    """The name and the unique id of the GPU."""
    import torch

    if not torch.cuda.is_available():
        return "a CPU", platform.node()
    return torch.cuda.get_device_name(0), str(
        getattr(torch.cuda.get_device_properties(0), "uuid", platform.node())
    )
