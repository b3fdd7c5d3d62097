#!/usr/bin/env python3
"""Answers the first questions of GSM8K with vLLM, greedily: the run of public expert logs of vLLM.

usage: vllm_gsm8k.py --model DIR --questions gsm8k_test.jsonl [--first 25] [--max-new-tokens 128]
                     [--seed 1234] [--dtype auto] [--timing FILE] [--gpu-memory-utilization 0.3]

The script has no call of moetrace: MOETRACE=1 or `moetrace run` traces it. --timing FILE gets
{"wall_time_sec", "tokens_generated"} of the answers, without the engine's start. A model folder
that holds only a config.json gets random weights; one without a tokenizer, the bytes of the
question as tokens.
"""

import argparse
import json
import pathlib
import time


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, type=pathlib.Path)
    parser.add_argument(
        "--questions", required=True, type=pathlib.Path, help="JSON Lines with a key question"
    )
    parser.add_argument("--first", type=int, default=25)
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--seed", type=int, default=1234)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--timing", type=pathlib.Path)
    parser.add_argument(
        "--gpu-memory-utilization",
        type=float,
        help="share of the GPU's memory, or of the CPU's; default: vLLM's",
    )
    given = parser.parse_args()

    with open(given.questions, encoding="utf-8-sig") as lines:
        questions = [json.loads(line)["question"] for line, _ in zip(lines, range(given.first))]
    if not (given.model / "config.json").exists():
        parser.error(
            f"--model: {given.model} has no config.json; give the folder of a downloaded model"
        )
    texts = any(
        (given.model / name).exists()
        for name in (
            "tokenizer_config.json",
            "tokenizer.json",
            "tokenizer.model",
            "tekken.json",
            "vocab.json",
        )
    )
    weights = any(path.suffix in (".safetensors", ".bin", ".pt") for path in given.model.iterdir())
    if not (texts and weights):
        print(
            f"{given.model}:{'' if weights else ' no weights, so random ones;'}"
            f"{'' if texts else ' no tokenizer, so bytes as tokens;'}"
        )
    import vllm

    prompts = (
        questions
        if texts
        else [{"prompt_token_ids": list(question.encode())} for question in questions]
    )
    memory = (
        {}
        if given.gpu_memory_utilization is None
        else {"gpu_memory_utilization": given.gpu_memory_utilization}
    )
    llm = vllm.LLM(
        model=str(given.model),
        seed=given.seed,
        dtype=given.dtype,
        skip_tokenizer_init=not texts,
        load_format="auto" if weights else "dummy",
        **memory,
    )
    sampling = vllm.SamplingParams(
        temperature=0,
        seed=given.seed,
        max_tokens=given.max_new_tokens,
        detokenize=texts,
        ignore_eos=not texts,
    )
    started = time.perf_counter()
    answers = llm.generate(prompts, sampling, use_tqdm=False)
    elapsed = time.perf_counter() - started
    tokens = sum(len(answer.outputs[0].token_ids) for answer in answers)
    print(f"{len(answers)} answers, {tokens} tokens in {elapsed:.2f} s")
    if given.timing:
        given.timing.write_text(
            json.dumps({"wall_time_sec": round(elapsed, 4), "tokens_generated": tokens}) + "\n"
        )


if __name__ == "__main__":
    main()
