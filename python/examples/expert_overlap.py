"""Which requests of a trace use the same experts? Prints the overlap of each pair. Needs numpy.

    expert_overlap.py trace.jsonl [--requests 8]

1.00: the same experts equally often; 0.00: no expert in common. The overlap is the sum over experts
of the smaller of the two shares, averaged over the layers in which both have rows.
"""

import argparse

import moetrace
import numpy

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("trace")
parser.add_argument(
    "--requests", type=int, default=8, help="how many, from the first (default: %(default)s)"
)
options = parser.parse_args()


def loads_of(trace, requests, num_experts):
    """[requests, num_layers, num_experts]: each expert's share of the request's picks in the layer;
    NaN if the request has no row there."""
    counts = numpy.zeros((len(requests), trace.num_layers, num_experts))
    place = {request.number: n for n, request in enumerate(requests)}
    for batch in trace.batches():
        where = numpy.array([place.get(number, -1) for number in batch.request.tolist()], int)
        rows, k = numpy.nonzero((where >= 0)[:, None] & (batch.topk_ids >= 0))
        numpy.add.at(counts, (where[rows], batch.layer[rows], batch.topk_ids[rows, k]), 1)
    totals = counts.sum(2, keepdims=True)
    return numpy.divide(counts, totals, out=numpy.full_like(counts, numpy.nan), where=totals > 0)


def overlap(a, b):
    """0 to 1; NaN: no layer has rows of both."""
    both = ~numpy.isnan(a).any(1) & ~numpy.isnan(b).any(1)
    return numpy.minimum(a, b)[both].sum(1).mean() if both.any() else numpy.nan


try:
    trace = moetrace.open(options.trace)
    requests = trace.requests()[: options.requests]
    num_experts = trace.num_experts or 1 + max(
        (int(batch.topk_ids.max()) for batch in trace.batches()), default=0
    )
    loads = loads_of(trace, requests, num_experts)
except moetrace.ReadError as error:
    raise SystemExit(f"expert_overlap: {error}") from None

names = [(request.req_id or str(request.number))[:12] for request in requests]
print(" " * 12, *(f"{name:>12}" for name in names))
for name, a in zip(names, loads):
    print(f"{name:>12}", *(f"{overlap(a, b):12.2f}" for b in loads))
