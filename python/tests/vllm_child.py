"""What vllm_check.py runs inside vLLM: named workloads, each in an engine of its own.

usage: vllm_child.py MODEL OUTPUT WORKLOAD...

OUTPUT: JSON, {workload: [{"id", "prompt", "tokens", "cached", "whole"}]}. MOETRACE decides whether
the workloads are traced, VLLM_ENABLE_V1_MULTIPROCESSING whether the engine has its own processes.
"""

import asyncio
import json
import pathlib
import random
import sys

ENGINE = dict(
    dtype="float32",
    seed=1234,
    max_model_len=512,
    max_num_seqs=16,
    enable_prefix_caching=False,
    enforce_eager=True,
)


def prompts(count, shortest, longest, seed=1):
    rng = random.Random(seed)
    return [
        [rng.randrange(256) for _ in range(rng.randint(shortest, longest))] for _ in range(count)
    ]


def sampling(count, **more):
    import vllm

    return vllm.SamplingParams(temperature=0, max_tokens=count, detokenize=False, seed=1234, **more)


def generate(model, batches, count=24, before=None, **options):
    """The answers to batches, one after another, of one engine. before(llm) is called first."""
    import vllm

    llm = vllm.LLM(model=model, **{**ENGINE, **options})
    if before:
        before(llm)
    done = []
    for batch in batches:
        for out in llm.generate(
            [dict(prompt_token_ids=p) for p in batch], sampling(count), use_tqdm=False
        ):
            done.append(
                dict(
                    id=out.request_id,
                    prompt=list(out.prompt_token_ids),
                    tokens=list(out.outputs[0].token_ids),
                    cached=out.num_cached_tokens or 0,
                    whole=True,
                )
            )
            routed = getattr(out.outputs[0], "routed_experts", None)
            if routed is not None:
                done[-1]["routed"] = routed.tolist()
    return done


def plain(model):
    return generate(model, [prompts(6, 3, 40)])


def compiled(model):
    return generate(model, [prompts(6, 3, 40)], enforce_eager=False)


def chunked(model):
    return generate(
        model, [prompts(6, 30, 200)], max_num_batched_tokens=32, enable_chunked_prefill=True
    )


def cached(model):
    head, *tails = prompts(4, 96, 96)
    return generate(
        model,
        [[head], [head + tail[:20] for tail in tails]],
        enable_prefix_caching=True,
        block_size=32,
    )


def preempted(model):
    """A cache that holds about three of the eight sequences at their full length."""
    return generate(
        model, [prompts(8, 60, 90)], count=120, num_gpu_blocks_override=20, block_size=32
    )


def guessed(model):
    """Speculative decoding by n-grams: repetitive prompts, and some wrong guesses."""
    guesses = dict(
        method="ngram", num_speculative_tokens=3, prompt_lookup_max=3, prompt_lookup_min=1
    )
    return generate(model, [[p * 3 for p in prompts(4, 6, 20)]], speculative_config=guesses)


def drafted(model):
    """Speculative decoding by a draft model with routers of its own, which is mostly wrong."""
    draft = dict(
        method="draft_model",
        model=str(pathlib.Path(model).with_name("Qwen3Moe")),
        num_speculative_tokens=3,
    )
    return generate(model, [prompts(4, 6, 20)], speculative_config=draft)


def tensor_parallel(model):
    return generate(model, [prompts(6, 3, 40)], tensor_parallel_size=2)


def _gpu(**more):
    """vLLM's usual setup on a GPU: bfloat16, CUDA graphs, the full shape with random weights.
    Without a GPU: `ENGINE`."""
    import torch
    import vllm  # noqa: F401  (first: then the next line leaves CUDA alone)

    if not torch.cuda.is_available():
        return more
    return dict(
        dtype="bfloat16",
        enforce_eager=False,
        load_format="dummy",
        skip_tokenizer_init=True,
        max_num_seqs=64,
        gpu_memory_utilization=0.6,
        **more,
    )


def graphs(model):
    return generate(model, [prompts(48, 20, 200)], count=64, **_gpu())


def captured(model):
    """With vLLM's own capture: an answer's "routed" is [prompt + generated - 1, layers, top_k]."""
    return generate(
        model, [prompts(48, 20, 200)], count=64, **_gpu(enable_return_routed_experts=True)
    )


def captured_by_two(model):
    """The same, tensor parallel."""
    return generate(
        model,
        [prompts(48, 20, 200)],
        count=64,
        **_gpu(enable_return_routed_experts=True, tensor_parallel_size=2),
    )


def watched(model):
    """Eager, in this process. The last "answer" is {layer: [ids, weights]} as a hook here saw them,
    in the order of rows."""
    seen = {}

    def watch(network):
        for module in network.modules():
            if hasattr(module, "router") and hasattr(module, "layer_id"):
                module.router._compute_routing = keep(
                    module.router._compute_routing, module.layer_id
                )

    def keep(compute, layer):
        def compute_and_keep(*args, **kwargs):
            weights, ids = compute(*args, **kwargs)
            columns = seen.setdefault(layer, ([], []))
            columns[0].extend(ids.tolist())
            columns[1].extend(weights.float().tolist())
            return weights, ids

        return compute_and_keep

    done = generate(
        model,
        [prompts(12, 20, 100)],
        count=16,
        before=lambda llm: llm.apply_model(watch),
        **{**_gpu(), "enforce_eager": True},
    )
    return [*done, {"seen": seen}]


async def _stream(engine, id, prompt, count, abort_after, done):
    tokens = []
    request = dict(id=id, prompt=prompt, tokens=tokens, cached=0, whole=abort_after is None)
    done.append(request)
    async for out in engine.generate(
        dict(prompt_token_ids=prompt), sampling(count, ignore_eos=True), id
    ):
        tokens[:] = out.outputs[0].token_ids
        if abort_after is not None and len(tokens) >= abort_after:
            await engine.abort(id)
            return


async def _streams(model):
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    engine = AsyncLLM.from_engine_args(
        AsyncEngineArgs(model=model, **{**ENGINE, "max_num_seqs": 32})
    )
    rng, done = random.Random(7), []
    texts = prompts(200, 5, 60, seed=3)
    await asyncio.gather(
        *(
            _stream(
                engine,
                f"stream-{n}",
                text,
                rng.randint(4, 40),
                rng.randint(1, 20) if n % 3 == 0 else None,
                done,
            )
            for n, text in enumerate(texts)
        )
    )
    engine.shutdown()
    return done


def streams(model):
    """200 concurrent requests, a third of them cancelled in the middle."""
    return asyncio.run(_streams(model))


if __name__ == "__main__":
    folder, output, *workloads = sys.argv[1:]
    results = {name: globals()[name](folder) for name in workloads}
    with open(output, "w") as file:
        json.dump(results, file)
