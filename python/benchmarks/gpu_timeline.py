"""Reads a timeline of torch.profiler, in Chrome's format: kernels, gaps and launches a token."""

import collections
import json
import statistics

_ON_GPU = ("kernel", "gpu_memcpy", "gpu_memset")


def _union(intervals):
    """The total length of the union of intervals (begin, end)."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def read(path, tokens, warm_tokens):
    """({figure: number}, [(kernel, us a token, number a token, streams)]) of a run of `tokens`
    tokens: over those from the first replayed graph to the last, but for the first `warm_tokens`.
    A timeline without graphs gives the kernels of the whole run, and no figures.
    """
    events = [e for e in json.loads(path.read_text())["traceEvents"] if e.get("ph") == "X"]
    on_gpu = sorted((e for e in events if e.get("cat") in _ON_GPU), key=lambda e: e["ts"])
    calls = [e for e in events if e.get("cat") in ("cuda_runtime", "cuda_driver")]
    launches = [e for e in calls if "GraphLaunch" in e["name"]]
    launched = {e["args"].get("correlation") for e in launches}
    graphs = collections.defaultdict(list)
    for e in on_gpu:
        correlation = e["args"].get("correlation")
        if correlation in launched:
            graphs[correlation].append(e)
    replays = sorted(graphs.values(), key=lambda kernels: kernels[0]["ts"])[warm_tokens:]
    if len(replays) < 3:
        return {}, _by_name(on_gpu, tokens)
    tokens = len(replays) - 1
    begin, end = replays[0][0]["ts"], replays[-1][0]["ts"]
    window = [e for e in on_gpu if begin <= e["ts"] < end]

    def spans(kernels):
        return [(e["ts"], e["ts"] + e["dur"]) for e in kernels]

    def of_graphs(function):
        return statistics.median(function(kernels) for kernels in replays[:-1])

    inside = of_graphs(lambda k: max(e for _, e in spans(k)) - k[0]["ts"])
    idle_inside = of_graphs(lambda k: max(e for _, e in spans(k)) - k[0]["ts"] - _union(spans(k)))
    figures = {
        "us a token": (end - begin) / tokens,
        "us with a kernel running": _union(spans(window)) / tokens,
        "us idle": (end - begin - _union(spans(window))) / tokens,
        "us from a graph's first kernel to its last": inside,
        "us idle inside a graph": idle_inside,
        "kernels in a graph": of_graphs(len),
        "streams in a graph": of_graphs(lambda k: len({e["args"].get("stream") for e in k})),
        "kernels and copies outside graphs": len(window) / tokens - of_graphs(len),
        "graph launches": sum(begin <= e["ts"] < end for e in launches) / tokens,
        "us of host time in a graph launch": statistics.median(e["dur"] for e in launches),
        "kernel launches": sum(
            begin <= e["ts"] < end and "LaunchKernel" in e["name"] for e in calls
        )
        / tokens,
    }
    return figures, _by_name(window, tokens)


def _by_name(events, tokens):
    by_name = collections.defaultdict(list)
    for e in events:
        by_name[e["name"]].append(e)
    kernels = []
    for name, of in by_name.items():
        streams = ",".join(sorted({str(e["args"].get("stream")) for e in of}))
        kernels.append((name, sum(e["dur"] for e in of) / tokens, len(of) / tokens, streams))
    return sorted(kernels, key=lambda kernel: -kernel[1])
