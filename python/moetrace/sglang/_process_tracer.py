"""The trace of one process of SGLang: the patches that feed it, its ring and its requests."""

from __future__ import annotations

import functools
import inspect
import logging
from typing import Any, Callable, Optional

from ..errors import TracingError
from ..recording import _adapter
from ..recording.producer import LayerInfo, Producer
from . import _batches

_log = logging.getLogger("moetrace")
_BYPASSING = ("BYPASSED", "TRITON_KERNEL")  # TopKOutputFormat: the experts' kernel routes by itself


class ProcessTracer:
    """Records what the model runner of this process computes."""

    def __init__(self) -> None:
        self._producer: Optional[Producer] = None
        self._torch_op: Any = None  # the module; imported with SGLang, because it imports torch
        self._token: Any = None  # the operator's; None: nothing is recorded, and nothing captured
        self._key = -1
        self._top_k: dict[int, int] = {}  # by layer
        # By SGLang's request id: the producer's request, and SGLang's.
        self._live: dict[str, tuple[Any, Any]] = {}
        self._say = _adapter.SayOnce()

    # ---- patches, each of a module that has just been imported ----

    def patch_routing(self, topk: Any) -> None:
        from ..recording import _torch_op

        original = topk._post_process_topk_ids
        expected = ["topk_ids", "topk_weights", "topk_config", "router_logits", "layer_id"]
        if list(inspect.signature(original).parameters)[:5] != expected:
            raise TracingError(
                "_post_process_topk_ids has other parameters than in SGLang 0.5.23; "
                "install that release"
            )
        self._torch_op, self._key, record = _torch_op, _torch_op.new_key(), _torch_op.record

        @functools.wraps(original)
        def post_process(topk_ids, topk_weights, topk_config, router_logits, layer_id, *args, **kw):
            # A draft model's layers forbid capture: their numbers are those of other layers.
            if (
                self._token is not None
                and layer_id is not None
                and topk_config.allow_routed_experts_capture
            ):
                record(self._token, topk_ids, topk_weights, layer_id, self._key)
            return original(
                topk_ids, topk_weights, topk_config, router_logits, layer_id, *args, **kw
            )

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
                # Before the captures, which hold the ring's address.
                self._try("this process is not traced", self._open, this)
            return init_cuda_graphs(this, *args, **kwargs)

        @functools.wraps(forward)
        def announce_and_forward(this, forward_batch, *args, **kwargs):
            if self._producer is None or this.is_draft_worker:
                return forward(this, forward_batch, *args, **kwargs)
            self._try("recording has stopped", self._announce, forward_batch)
            try:
                return forward(this, forward_batch, *args, **kwargs)
            except BaseException:
                self._try("recording has stopped", self._abort)  # no later pass may finish this one
                raise

        runner.init_cuda_graphs, runner.forward = open_and_init, announce_and_forward

    def patch_scheduler(self, module: Any) -> None:
        original = module.Scheduler.process_batch_result

        @functools.wraps(original)
        def process_batch_result(*args, **kwargs):
            result = original(*args, **kwargs)
            if self._live:
                self._try("recording has stopped", self._end_finished)
            return result

        module.Scheduler.process_batch_result = process_batch_result

    # ---- recording ----

    def _open(self, runner: Any) -> None:
        from sglang.srt.runtime_context import get_parallel

        if self._torch_op is None:
            raise TracingError("its routing could not be patched; an earlier line says why")
        parallel = get_parallel()
        if parallel.tp_rank != 0:
            return
        why = _batches.refusal(runner, parallel)
        if why:
            raise TracingError(why)
        routers, notes = _routers(runner.model)
        for note in notes:
            self._say(note)
        if not routers:
            raise TracingError("the routing of none of its layers can be seen")
        self._producer = producer = Producer(
            **self._describe(runner, parallel, routers), notes=notes
        )
        _adapter.call_at_exit(producer.close)
        self._torch_op.bind(self._key, self._record)
        self._token = self._torch_op.token_on(next(runner.model.parameters()).device)
        _log.info("moetrace: tracing %s", producer.summary)

    def _describe(self, runner: Any, parallel: Any, routers: dict[int, Any]) -> dict[str, Any]:
        """The arguments of `Producer`, from SGLang's configuration."""
        config = runner.model_config.hf_text_config
        num_layers = max(config.num_hidden_layers, max(routers) + 1)
        experts = _adapter.experts_by_layer(config, num_layers)
        table = {layer: _layer_info(router, experts[layer]) for layer, router in routers.items()}
        self._top_k = {layer: info.top_k for layer, info in table.items() if info.top_k}
        first = table[min(table)]
        return {
            "num_layers": num_layers,
            "num_experts": _adapter.num_experts_of(config, "this model can't be traced yet"),
            "top_k": max(self._top_k.values()),
            "layer_table": table,
            "largest_step": _batches.largest_step(runner.server_args),
            "model_id": runner.model_config.model_path,
            "engine": "sglang",
            "engine_version": _adapter.installed_version("sglang"),
            "torch_version": _adapter.installed_version("torch"),
            "router_score": first.score,
            "router_renormalized": bool(first.renormalized),
            "router_scaling": first.scaling,
            "rank": parallel.tp_rank,
            "world_size": parallel.tp_size,
            "tp_rank": parallel.tp_rank,
            "cuda_device": runner.gpu_id if runner.device == "cuda" else None,
        }

    def _record(self, layer: int, ids: Any, weights: Any) -> None:
        if self._producer is not None:
            self._producer.record(layer, *_adapter.routed_columns(ids, weights, self._top_k[layer]))

    def _announce(self, batch: Any) -> None:
        producer = self._producer
        assert producer is not None
        try:
            firsts, counts = _batches.layout_of(batch)
        except ValueError as error:
            self._say(f"a pass is not recorded: {error}")
            firsts = counts = []
        if not counts:
            producer.abort()
            return
        requests = [
            self._request(producer, request, first)
            for request, first in zip(batch.moetrace_requests, firsts)
        ]
        producer.step(*_adapter.pack_spans(requests, firsts, counts))

    def _request(self, producer: Producer, request: Any, first: int) -> Any:
        if request.rid not in self._live:
            number = producer.request(
                request.rid, prompt_tokens=len(request.origin_input_ids), cached_tokens=first
            )
            self._live[request.rid] = number, request
        return self._live[request.rid][0]

    def _abort(self) -> None:
        if self._producer is not None:
            self._producer.abort()

    def _end_finished(self) -> None:
        for rid, (number, request) in list(self._live.items()):
            if request.finished():
                reason = request.finished_reason.to_json()["type"]  # stop, length, abort
                number.end(len(request.output_ids), "cancelled" if reason == "abort" else reason)
                del self._live[rid]

    # ---- failures ----

    def _try(self, what: str, function: Callable, *args: Any) -> None:
        try:
            function(*args)
        except Exception as error:  # the engine must go on
            self._stop()
            # SGLang's Engine sets its log level to ERROR.
            self._say(f"{what}: {_adapter.in_one_line(error)}", logging.ERROR)

    def _stop(self) -> None:
        """Stops recording for good. The producer stays open until the process ends, because
        captured graphs hold its address; disarmed, it records nothing."""
        producer, self._producer, self._token = self._producer, None, None
        self._live.clear()
        if self._torch_op is not None:
            self._torch_op.bind(self._key, None)
        if producer is not None:
            producer.abort()


def _layer_info(router: Any, experts: Optional[int]) -> LayerInfo:
    """A layer by its TopKConfig. Ids of zero-computation experts have not been seen, so that their
    number stays unknown."""
    scaled = router.apply_routed_scaling_factor_on_output and router.routed_scaling_factor
    groups = _adapter.positive(getattr(router, "num_expert_group", None))
    topk_groups = _adapter.positive(getattr(router, "topk_group", None))
    if getattr(router, "use_grouped_topk", None) is False:
        groups = topk_groups = 1
    known = groups is not None and topk_groups is not None and topk_groups <= groups
    return LayerInfo(
        experts=experts,
        top_k=router.top_k - router.num_shared_topk_slots,
        score=router.scoring_func,
        renormalized=bool(router.renormalize),
        scaling=float(scaled or 1.0),
        biased=router.correction_bias is not None if hasattr(router, "correction_bias") else None,
        groups=groups if known else None,
        topk_groups=topk_groups if known else None,
        table=False,
    )


def _routers(model: Any) -> tuple[dict[int, Any], list[str]]:
    """The TopKConfig of each layer whose routing can be recorded, and a note on the others."""
    routers = {
        module.layer_id: module.topk_config
        for module in model.modules()
        if type(module).__name__ == "TopK" and not module.is_draft
    }
    bypassing = sorted(
        layer
        for layer, config in routers.items()
        if getattr(config.output_format, "name", None) in _BYPASSING
    )
    hashed = sorted(
        module.layer_id
        for module in model.modules()
        if type(module).__name__ == "HashTopK" and not module.is_draft
    )
    reasons = (
        (bypassing, "their kernel routes by itself; try another --moe-runner-backend"),
        (hashed, "their experts are looked up by token"),
    )
    notes = [
        f"layers {', '.join(map(str, layers))} are not recorded: {why}"
        for layers, why in reasons
        if layers
    ]
    return {layer: routers[layer] for layer in sorted(set(routers) - set(bypassing))}, notes
