"""An engine in numpy: a router, requests, and moetrace.Producer.

moetrace run -o trace.jsonl -- python3 own_engine.py
"""

import moetrace
import numpy

LAYERS, EXPERTS, TOP_K, HIDDEN = 4, 16, 2, 32
random = numpy.random.default_rng(1)
gates = random.standard_normal((LAYERS, HIDDEN, EXPERTS)).astype("float32")


def route(hidden, layer):
    """ids int64 and weights float32, each [rows, TOP_K]: the largest of the softmax of the gate."""
    logits = hidden @ gates[layer]
    weights = numpy.exp(logits - logits.max(1, keepdims=True))
    weights /= weights.sum(1, keepdims=True)
    ids = numpy.argsort(-weights, axis=1)[:, :TOP_K]
    return ids, numpy.take_along_axis(weights, ids, 1)


def forward(producer, rows, spans):
    producer.step(rows, spans)  # before the pass: which rows are which tokens
    hidden = random.standard_normal((rows, HIDDEN)).astype("float32")
    for layer in range(LAYERS):
        ids, weights = route(hidden, layer)
        producer.record(layer, ids, weights)


with moetrace.Producer(
    num_layers=LAYERS,
    num_experts=EXPERTS,
    top_k=TOP_K,
    model_id="example/own-engine",
    engine="own_engine",
    router_score="softmax",
    enabled=moetrace.enabled(),
) as producer:
    prompts, new_tokens = [9, 4], 8
    requests = [producer.request(f"r{n}", prompt_tokens=prompt) for n, prompt in enumerate(prompts)]
    forward(
        producer,
        sum(prompts),
        [(requests[0], 0, 0, prompts[0]), (requests[1], 0, prompts[0], prompts[1])],
    )
    for n in range(
        new_tokens - 1
    ):  # decoding: one row for each request; the last token is never fed
        forward(
            producer, 2, [(requests[0], prompts[0] + n, 0, 1), (requests[1], prompts[1] + n, 1, 1)]
        )
    for request in requests:
        request.end(new_tokens, "length")
    totals = producer.totals
print(
    f"{totals.recorded} rows recorded in {totals.steps} passes, {totals.dropped} dropped"
    if producer.trace_id
    else "not traced: set MOETRACE=1"
)
