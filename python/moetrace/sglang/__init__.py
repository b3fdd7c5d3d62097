"""The plugin for SGLang: records which experts its Mixture-of-Experts layers pick while it serves.

SGLang finds `register` by its entry point (group "sglang.srt.plugins") where the package is
installed beside it. MOETRACE=1 turns the plugin on; otherwise it changes nothing.

How it works. The operator of recording/_torch_op.py takes ids and weights where `select_experts`
returns them: before the load balancer maps logical ids, and before shared experts' columns are
appended. Captured and compiled graphs contain the operator. `ForwardBatch` says which rows are
whose tokens, and `ModelRunner.forward` announces them before the pass or the replay. Passes without
requests (kernel warm-up, captures, idle ranks) are not announced and leave no rows; the request
that the server sends itself at its start is a request. Tensor-parallel ranks all see the same rows,
so that only the first records.

Refused, in one line, because rows would lose their place: attention data parallelism, pipeline and
context parallelism, expert parallelism that scatters tokens, overlapping batches, and speculative
decoding. A layer whose kernel routes by itself is left out, in one line. A layer that goes around
`select_experts` in another way counts as torn. Under overlapped scheduling a request may have one
row past its end. A failure turns tracing off, with one line of the logger "moetrace", and the
engine goes on.

Checked with SGLang 0.5.23 (tests/sglang_check.py). On a CPU, eager: every row, with chunked prefill
and a cached prefix, and with two tensor-parallel ranks. On an H200, with CUDA graphs of prefill and
decode, padded batches and overlapped scheduling, and without graphs: the experts of every row
against SGLang's own capture. The refusal of pipeline parallelism is checked, too. Not run: compiled
passes, two GPUs, the other refusals.
"""

from __future__ import annotations

import functools

from ..recording import _adapter
from ..recording._imports import when_imported
from ._process_tracer import ProcessTracer

# What the plugin patches, as soon as SGLang imports it.
PATCHES = {
    "sglang.srt.layers.moe.topk": ProcessTracer.patch_routing,
    "sglang.srt.model_executor.forward_batch_info": ProcessTracer.patch_batches,
    "sglang.srt.model_executor.model_runner": ProcessTracer.patch_runner,
    "sglang.srt.managers.scheduler": ProcessTracer.patch_scheduler,
}


def register() -> None:
    """The entry point. SGLang calls it once in each of its processes."""
    if not _adapter.asked_for("sglang"):
        return
    tracer = ProcessTracer()
    for module, patch in PATCHES.items():
        when_imported(module, functools.partial(patch, tracer))
