"""The plugin for SGLang: records which experts its Mixture-of-Experts layers pick, while it serves. Installed beside SGLang it is
found by its entry point (group "sglang.srt.plugins"); MOETRACE=1 turns it on, and without that nothing is touched.

What it does: the ids and weights are taken where `select_experts` has them, still logical, in front of the load balancer's map
and of shared experts' columns, by the operator of _torch_op.py, which lies in captured and compiled graphs. `ForwardBatch` says
which rows are whose tokens; `ModelRunner.forward` announces them in front of the pass or the replay. Passes without requests
(warm-up of kernels, captures, idle ranks) are announced by nobody and leave nothing; the request that the server sends itself
when it starts is a request. Of tensor-parallel ranks, which all see the same rows, the first records.

Refused, with one line: attention data parallelism, pipeline and context parallelism, expert parallelism that scatters tokens, two
batches that overlap, and speculative decoding, where rows lose their place; and layers whose kernel routes by itself. A layer that
goes around `select_experts` in some other way counts as torn. Under overlapped scheduling a request may have one row past its
end. Nothing here may break the engine: what fails turns tracing off, with one line of the logger "moetrace".

Checked with SGLang 0.5.23's engine (tests/sglang_check.py): on a CPU, eager, every row, with chunked prefill and a cached prefix,
and with two tensor-parallel ranks; on an H200, with CUDA graphs of prefill and decode, padded batches and overlapped scheduling,
and without graphs, every row's experts against what SGLang itself captures; and the refusal of pipeline parallelism. Not run:
compiled passes, two GPUs, the other refusals.
"""
from __future__ import annotations

import atexit
import functools
import importlib.metadata
import inspect
import logging
from typing import Any, Callable, Optional

from ..recording import _plugins
from ..recording._imports import when_imported
from ..recording.producer import Producer

_log = logging.getLogger("moetrace")
_BYPASSING = ("BYPASSED", "TRITON_KERNEL")  # TopKOutputFormat: ids are made inside of the experts' kernel


def register() -> None:
    """The entry point. SGLang calls it once in each of its processes."""
    if not _plugins.asked_for("sglang"):
        return
    tracer = Tracer()
    when_imported("sglang.srt.layers.moe.topk", tracer.patch_routing)
    when_imported("sglang.srt.model_executor.forward_batch_info", tracer.patch_batches)
    when_imported("sglang.srt.model_executor.model_runner", tracer.patch_runner)
    when_imported("sglang.srt.managers.scheduler", tracer.patch_scheduler)


class Tracer:
    """What one process records."""

    def __init__(self) -> None:
        self._producer: Optional[Producer] = None
        self._token: Any = None  # of the operator; None: nothing is recorded, and nothing captured
        self._key = -1
        self._top_k = 0
        self._live: dict[str, tuple] = {}  # by SGLang's request id: the producer's request, SGLang's
        self._said: set[str] = set()

    # ---- patches, each of a module that has just been imported ----

    def patch_routing(self, topk: Any) -> None:
        from . import _torch_op

        self._key, record = _torch_op.new_key(), _torch_op.record
        original = topk._post_process_topk_ids
        expected = ["topk_ids", "topk_weights", "topk_config", "router_logits", "layer_id"]
        if list(inspect.signature(original).parameters)[:5] != expected:
            raise TypeError("_post_process_topk_ids has other parameters than in SGLang 0.5.23")

        @functools.wraps(original)
        def post_process(topk_ids, topk_weights, topk_config, router_logits, layer_id, *args, **kwargs):
            # A draft's layers don't allow it: they have the numbers of other layers.
            if self._token is not None and layer_id is not None and topk_config.allow_routed_experts_capture:
                record(self._token, topk_ids, topk_weights, layer_id, self._key)
            return original(topk_ids, topk_weights, topk_config, router_logits, layer_id, *args, **kwargs)

        topk._post_process_topk_ids = post_process

    def patch_batches(self, info: Any) -> None:
        original = info.ForwardBatch.init_new.__func__

        @functools.wraps(original)
        def init_new(cls, batch, *args, **kwargs):
            made = original(cls, batch, *args, **kwargs)
            made.moetrace_requests = list(batch.reqs or ())
            return made

        info.ForwardBatch.init_new = classmethod(init_new)

    def patch_runner(self, module: Any) -> None:
        runner = module.ModelRunner
        init_cuda_graphs, forward = runner.init_cuda_graphs, runner.forward

        @functools.wraps(init_cuda_graphs)
        def open_and_init(this, *args, **kwargs):
            if not this.is_draft_worker and self._producer is None:
                self._try("nothing is traced", self._open, this)  # in front of the captures, which hold the ring's address
            return init_cuda_graphs(this, *args, **kwargs)

        @functools.wraps(forward)
        def announce_and_forward(this, forward_batch, *args, **kwargs):
            if self._producer is None or this.is_draft_worker:
                return forward(this, forward_batch, *args, **kwargs)
            self._try("tracing has stopped", self._announce, forward_batch)
            try:
                return forward(this, forward_batch, *args, **kwargs)
            except BaseException:
                self._try("tracing has stopped", self._producer.abort)  # no later pass may finish this one
                raise

        runner.init_cuda_graphs, runner.forward = open_and_init, announce_and_forward

    def patch_scheduler(self, module: Any) -> None:
        original = module.Scheduler.process_batch_result

        @functools.wraps(original)
        def process_batch_result(*args, **kwargs):
            result = original(*args, **kwargs)
            if self._live:
                self._try("tracing has stopped", self._end_finished)
            return result

        module.Scheduler.process_batch_result = process_batch_result

    # ---- recording ----

    def _open(self, runner: Any) -> None:
        from sglang.srt.runtime_context import get_parallel

        from . import _torch_op

        parallel = get_parallel()
        if parallel.tp_rank != 0:
            return
        why = _refuse(runner, parallel)
        if why:
            raise NotImplementedError(why)
        routers = {module.layer_id: module.topk_config for module in runner.model.modules()
                   if type(module).__name__ == "TopK" and not module.is_draft}
        bypassing = sorted(layer for layer, config in routers.items()
                           if getattr(config.output_format, "name", None) in _BYPASSING)
        hashed = sorted(module.layer_id for module in runner.model.modules()
                        if type(module).__name__ == "HashTopK" and not module.is_draft)
        notes = [f"layers {', '.join(map(str, missed))} are not recorded: {why}" for missed, why in (
            (bypassing, "their kernel routes by itself; try another --moe-runner-backend"),
            (hashed, "their experts are looked up by token")) if missed]
        for note in notes:
            self._say(note)
        layers = sorted(set(routers) - set(bypassing))
        if not layers:
            raise NotImplementedError("the model has no layer whose routing can be seen")
        self._open_for(runner, parallel, layers, routers[layers[0]], notes)
        _torch_op.bind(self._key, self._record)
        self._token = _torch_op.token_on(next(runner.model.parameters()).device)
        atexit.register(self._producer.close)
        _log.info("moetrace: tracing %s", self._producer.summary)

    def _open_for(self, runner: Any, parallel: Any, layers: list[int], router: Any, notes: list[str]) -> None:
        config = runner.model_config.hf_text_config
        names = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
        experts = next((getattr(config, name) for name in names if getattr(config, name, None)), None)
        if experts is None:
            raise NotImplementedError("the model's configuration does not say its number of experts")
        self._top_k = router.top_k - router.num_shared_topk_slots
        scaled = router.apply_routed_scaling_factor_on_output and router.routed_scaling_factor
        self._producer = Producer(
            num_layers=max(config.num_hidden_layers, layers[-1] + 1), num_experts=experts, top_k=self._top_k, moe_layers=layers,
            model_id=runner.model_config.model_path, notes=notes, engine="sglang",
            engine_version=importlib.metadata.version("sglang"), torch_version=importlib.metadata.version("torch"),
            router_score=router.scoring_func,
            router_renormalized=bool(router.renormalize), router_scaling=float(scaled or 1.0),
            rank=parallel.tp_rank, world_size=parallel.tp_size, tp_rank=parallel.tp_rank,
            cuda_device=runner.gpu_id if runner.device == "cuda" else None)

    def _record(self, layer: int, ids: Any, weights: Any) -> None:
        # Shared experts that are computed with the routed ones have the last columns.
        self._producer.record(layer, ids[:, :self._top_k].contiguous(), weights[:, :self._top_k].contiguous())

    def _announce(self, batch: Any) -> None:
        try:
            firsts, counts = rows_of(batch)
        except ValueError as error:
            self._say(f"a pass is not recorded: {error}")
            firsts = counts = []
        if not counts:
            self._producer.abort()
            return
        spans, row = [], 0
        for request, first, count in zip(batch.moetrace_requests, firsts, counts):
            spans.append((self._request(request, first), first, row, count))
            row += count
        self._producer.step(row, spans)

    def _request(self, request: Any, first: int) -> Any:
        if request.rid not in self._live:
            number = self._producer.request(request.rid, prompt_tokens=len(request.origin_input_ids), cached_tokens=first)
            self._live[request.rid] = number, request
        return self._live[request.rid][0]

    def _end_finished(self) -> None:
        for rid, (number, request) in list(self._live.items()):
            if request.finished():
                reason = request.finished_reason.to_json()["type"]  # stop, length, abort
                number.end(len(request.output_ids), "cancelled" if reason == "abort" else reason)
                del self._live[rid]

    # ---- when something fails ----

    def _try(self, what: str, function: Callable, *args: Any) -> None:
        try:
            function(*args)
        except Exception as error:  # the engine must go on
            self._stop()
            self._say(f"{what}: {' '.join(str(error).split()) or type(error).__name__}", logging.ERROR)  # SGLang's Engine shows no less

    def _stop(self) -> None:
        """For good. The producer stays open, because captured graphs hold its address; disarmed, it records nothing."""
        from . import _torch_op

        _torch_op.bind(self._key, None)
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.abort()

    def _say(self, line: str, level: int = logging.WARNING) -> None:
        if line not in self._said:
            self._said.add(line)
            _log.log(level, "moetrace: %s", line)


def rows_of(batch: Any) -> tuple[list[int], list[int]]:
    """The first position and the number of rows of each request of a ForwardBatch, in row order; both empty if it has none.
    ValueError, with one line, if they can't be told."""
    requests = getattr(batch, "moetrace_requests", ())
    if not requests:
        return [], []
    mode = batch.forward_mode.name
    if mode == "DECODE" and batch.seq_lens_cpu is not None:
        firsts, counts = [length - 1 for length in batch.seq_lens_cpu.tolist()], [1] * len(batch.seq_lens_cpu)
    elif mode in ("EXTEND", "MIXED") and batch.extend_seq_lens_cpu is not None:
        firsts, counts = list(batch.extend_prefix_lens_cpu), list(batch.extend_seq_lens_cpu)
    else:
        raise ValueError(f"its mode {mode} does not say which rows are whose tokens")
    rows = batch.positions.shape[-1]
    if len(counts) != len(requests) or sum(counts) != rows:
        raise ValueError(f"it has {rows} rows, and its {len(requests)} requests {sum(counts)}")
    return firsts, counts


def _refuse(runner: Any, parallel: Any) -> Optional[str]:
    args = runner.server_args
    for holds, what in (
            (parallel.attn_dp_size > 1, "attention data parallelism gathers the rows of several ranks"),
            (parallel.pp_size > 1, "with pipeline parallelism each rank has some of the layers"),
            (parallel.attn_cp_size > 1, "context parallelism splits the rows"),
            (getattr(args, "moe_a2a_backend", "none") not in (None, "none"), "this all-to-all backend scatters the rows"),
            (getattr(args, "enable_two_batch_overlap", False), "two overlapping batches split the rows"),
            (runner.attn_tp_sequence_sharded(1), "sequence parallelism splits the rows"),
            (not runner.spec_algorithm.is_none(), "speculative decoding has rows of rejected tokens"),
            (runner.device not in ("cuda", "cpu"), f"the device is {runner.device}; it must be cuda or cpu")):
        if holds:
            return what
    return None
