"""Prints vllm.jsonl: a made-up log in the form that vLLM's public MoE logging patch writes.

Like the logs that people have, it begins with warm-up passes over dummy tokens, all with one and
the same routing; every row has the same req_id, and token_idx counts from 0 in each pass.
"""

import json
import math
import random
import struct

EXPERTS, TOP_K = 60, 4
WARM_UP = (200, 56, 8)  # tokens of each pass
PASSES = (61, 1, 1, 48, *[2] * 12, 1)


def routing(rng):
    """Ids and softmax weights, not renormalised, of one token."""
    odds = [math.exp(rng.gauss(0, 1)) for _ in range(EXPERTS)]
    best = sorted(range(EXPERTS), key=odds.__getitem__, reverse=True)[:TOP_K]
    return best, [struct.unpack("<f", struct.pack("<f", odds[n] / sum(odds)))[0] for n in best]


def main():
    rng = random.Random(25)
    meta = {
        "type": "meta",
        "model_id": "made-up/moe-60",
        "vllm_version": "0.11.2.dev0",
        "torch_version": "2.9.0+cu128",
        "device": "cuda",
        "seed": 1234,
        "layers_logged": [0],
        "top_k": TOP_K,
        "created_at": 1764302556.0129569,
    }
    print(json.dumps(meta))
    dummy = routing(rng)
    for tokens, warm_up in [(n, True) for n in WARM_UP] + [(n, False) for n in PASSES]:
        for token in range(tokens):
            ids, weights = dummy if warm_up else routing(rng)
            row = {"type": "route", "req_id": "r1", "token_idx": token, "layer": 0}
            print(json.dumps({**row, "topk_ids": ids, "topk_weights": weights}))


main()
