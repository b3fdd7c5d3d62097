"""Which requests of a trace use the same experts? For each pair, how alike their expert loads are. Needs numpy.

    expert_overlap.py trace.jsonl [--requests 8]

1.00: the same experts as often; 0.00: none in common. It is the sum over experts of the smaller of the two shares, averaged over
the layers in which both have rows.
"""
import argparse

import numpy

import moetrace

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("trace")
parser.add_argument("--requests", type=int, default=8, help="how many, from the first (default: %(default)s)")
options = parser.parse_args()


def shares(routing, num_experts):
    """[num_layers, num_experts]: the part of the layer's picks that each expert has; NaN where the layer has no row."""
    counts = numpy.zeros((routing.ids.shape[1], num_experts))
    for layer in routing.layers:
        picked = routing.ids[:, layer]
        counts[layer] = numpy.bincount(picked[picked >= 0], minlength=num_experts)
    totals = counts.sum(1, keepdims=True)
    return numpy.divide(counts, totals, out=numpy.full_like(counts, numpy.nan), where=totals > 0)


def overlap(a, b):
    """0 to 1; NaN: no layer has rows of both."""
    both = ~numpy.isnan(a).any(1) & ~numpy.isnan(b).any(1)
    return numpy.minimum(a, b)[both].sum(1).mean() if both.any() else numpy.nan


try:
    trace = moetrace.open(options.trace)
    requests = trace.requests()[:options.requests]
    num_experts = trace.num_experts or 1 + max((int(batch.topk_ids.max()) for batch in trace.batches()), default=0)
    loads = [shares(trace.request(request.number), num_experts) for request in requests]
except moetrace.ReadError as error:
    raise SystemExit(f"expert_overlap: {error}")

names = [(request.req_id or str(request.number))[:12] for request in requests]
print(" " * 12, *(f"{name:>12}" for name in names))
for name, a in zip(names, loads):
    print(f"{name:>12}", *(f"{overlap(a, b):12.2f}" for b in loads))
