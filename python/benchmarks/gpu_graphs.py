"""What a branch and a kernel in line cost a CUDA graph of kernels, without any engine.

A graph whose kernels form one line is launched in another way than one with a branch: see NVIDIA's
"Constant-time launch for straight-line CUDA graphs".
"""

import statistics
import time

REPLAYS = 200


def _capture(x, scratch, side, kernels, form):
    import torch

    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for n in range(kernels):
            if n == kernels - 4 and form == "branch":
                side.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(side):
                    scratch.add_(1)
            if n == kernels - 4 and form == "in line":
                scratch.add_(1)
            x.add_(1)
            if n == kernels - 2 and form == "branch":
                torch.cuda.current_stream().wait_stream(side)
    return graph


def _replay(graph):
    """Microseconds of one replay: on the GPU, one after another; on the host, GPU idle before."""
    import torch

    gpu, host = [], []
    for _ in range(REPLAYS):
        torch.cuda.synchronize()
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        started = time.perf_counter_ns()
        graph.replay()
        host.append((time.perf_counter_ns() - started) / 1e3)
        after.record()
        torch.cuda.synchronize()
        gpu.append(1e3 * before.elapsed_time(after))
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    before.record()
    for _ in range(REPLAYS):
        graph.replay()
    after.record()
    torch.cuda.synchronize()
    return (
        statistics.median(gpu),
        statistics.median(host),
        1e3 * before.elapsed_time(after) / REPLAYS,
    )


def measure(kernels):
    """Yields (name, {figure: microseconds}) for each form of graph and each size of its kernels."""
    import torch

    side = torch.cuda.Stream()
    scratch = torch.zeros(32, device="cuda")
    for elements, size in ((2048, "tiny"), (1 << 22, "8 us")):
        x = torch.zeros(elements, device="cuda")
        x.add_(1), scratch.add_(1)
        torch.cuda.synchronize()
        for form in ("line", "branch", "in line"):
            gpu, host, streamed = _replay(_capture(x, scratch, side, kernels, form))
            yield (
                f"graph of {kernels} {size} kernels, {form}",
                {
                    "us on the GPU": gpu,
                    "us a replay, back to back": streamed,
                    "us of host time in replay()": host,
                },
            )
