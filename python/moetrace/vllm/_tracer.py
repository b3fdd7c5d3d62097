"""One model runner's trace: its ring, its requests, and what each step announces."""
from __future__ import annotations

import logging
import multiprocessing.util
import tempfile
from typing import Any, Optional

import torch

from ..recording import _library, _torch_op
from ..errors import TracingError
from ..recording.producer import Producer
from . import _layers

_log = logging.getLogger("moetrace")


class Tracer:
    """Lives in the process that holds the model, from the end of its loading on."""

    @classmethod
    def of(cls, runner: Any) -> Optional["Tracer"]:
        """The tracer of a model runner whose model has been loaded, all layers bound. None: there is nothing to trace.

        Raises TracingError for a mode in which rows do not stay together, or a ring that can't be made.
        """
        config, model = runner.vllm_config, runner.get_model()
        layers, missed = _layers.find(model, _captures_itself(config))
        if not layers and not missed:
            if getattr(config.model_config, "is_moe", False) and config.parallel_config.pipeline_parallel_size == 1:
                raise TracingError("none of its MoE layers is of a kind that can be recorded")
            return None
        why = _refuse(config, model, layers)
        if why:
            raise TracingError(why)
        top_k = max((layer.router.top_k for layer in layers if hasattr(layer.router, "top_k")), default=None) or \
            _config_top_k(config)
        count = config.model_config.get_total_num_hidden_layers()
        for layer in list(layers):
            if layer.index >= count:
                missed[layer.index] = f"by its configuration the model has {count} layers"
            elif getattr(layer.router, "top_k", top_k) != top_k:
                missed[layer.index] = f"its top-k is {layer.router.top_k}, that of the trace is {top_k}"
        layers = [layer for layer in layers if layer.index not in missed]
        notes = [f"layer {index} is not recorded: {reason}" for index, reason in sorted(missed.items())]
        for note in notes:
            _log.warning("moetrace: %s", note)
        if not layers:
            raise TracingError("none of its layers can be recorded")
        return cls(runner, layers, top_k, notes)

    def __init__(self, runner: Any, layers: list[_layers.Layer], top_k: int, notes: list[str]):
        config = runner.vllm_config
        self._on_gpu = runner.device.type == "cuda"
        self._armed = _tp_rank() == 0  # the others see the same rows
        self._top_k = top_k
        # Models that denoise a block of tokens have the latter alone: what they feed is not kept, either.
        speculative = config.speculative_config is not None or getattr(config, "num_speculative_tokens", 0) > 0
        asynchronous = bool(config.scheduler_config.async_scheduling)
        adaptive = bool(getattr(config.speculative_config, "enable_adaptive_verification", False))
        more = []
        if adaptive:
            more.append("adaptive verification deals rows out on the GPU: they have no request")
        elif speculative and asynchronous:
            more.append("tokens may be refused after the next pass has been enqueued, so positions are not known in time: rows have none")
        more += _notes(layers, top_k)
        for note in more:
            _log.warning("moetrace: %s", note)
        self._failed = False  # recording has: to be ended with the next step
        self._producer: Optional[Producer] = None
        self._steps: Any = None  # python/vllm_steps
        if self._armed:
            self._producer = Producer(**_describe(runner, layers, top_k), notes=[*notes, *more])
            self._steps = _library.load_compiled("moetrace_steps").Steps(self._producer, speculative, asynchronous,
                                                                                rows_known=not adaptive)
        elif self._on_gpu:
            self._producer = _unread(runner, layers, top_k)
        if self._producer is None:
            return
        self._bind(layers, config, runner.device)
        if self._armed:
            _log.info("moetrace: tracing %s", self._producer.summary)
        # Worker processes do not run atexit handlers, but these.
        multiprocessing.util.Finalize(self, self.close, exitpriority=100)

    def _bind(self, layers: list[_layers.Layer], config: Any, device: torch.device) -> None:
        join = None
        if self._on_gpu:
            record, join = self._launch, self._join
            self._deferred = all(layer.keeps for layer in layers)
            self._first_layer = layers[0].index
            self._addresses: set[int] = set()  # of the ids of this pass
        else:
            key = _torch_op.new_key()
            token = _torch_op.token_on(device)
            _torch_op.bind(key, self._record)
            _salt_cache(config, key)

            def record(layer: int, ids: torch.Tensor, weights: Optional[torch.Tensor]) -> None:
                torch.ops.moetrace_py.record(token, ids, weights, layer, key)
        for layer in layers:
            layer.bind(record, join if layer is layers[-1] else None)

    def _record(self, layer: int, ids: Any, weights: Any) -> None:
        """What the operator does when it runs, on a CPU."""
        if self._producer is not None:
            self._producer.record(layer, *self._columns(ids, weights))

    def _launch(self, layer: int, ids: Any, weights: Any) -> None:
        """On a GPU, as the layer's experts are about to be enqueued: Python runs in eager mode and under capture.

        The producer holds every layer's tensors until the end of the pass, so two layers at one address have a buffer that the
        engine writes again. It shows in the first pass, which is one of vLLM's own, to profile memory.
        """
        if self._producer is None or self._failed:
            return
        try:
            ids, weights = self._columns(ids, weights)
            if layer == self._first_layer:
                self._addresses.clear()
            elif ids.data_ptr() in self._addresses:
                self._deferred = False
            self._addresses.add(ids.data_ptr())
            self._producer.record(layer, ids, weights, deferred=self._deferred)
        except Exception as error:  # the engine must go on, and its capture must stay whole: the next step gives up
            self._failed = True
            _log.warning("moetrace: recording has stopped: layer %d: %s", layer, " ".join(f"{error!r}".split()))

    def _join(self) -> None:
        if self._producer is not None:
            self._producer.join()

    def _columns(self, ids: Any, weights: Any) -> tuple:
        """The routed experts' columns alone: shared experts that are fused into the kernel come behind them."""
        if ids.shape[-1] > self._top_k:
            ids = ids[:, :self._top_k]
            weights = weights if weights is None else weights[:, :self._top_k]
        return ids.contiguous(), weights if weights is None else weights.contiguous()

    def follow(self, schedule: Any) -> None:
        """See moetrace_steps.Steps."""
        if self._steps is not None:
            self._steps.follow(schedule)

    def announce(self, ids: list[str], starts: Any, firsts: Any) -> None:
        """See moetrace_steps.Steps."""
        if self._failed:
            self.give_up()
        if self._steps is not None:
            self._steps.announce(ids, starts, firsts)

    def close(self) -> None:
        """Ends the trace. A second call does nothing."""
        producer, steps = self._producer, self._steps
        self._producer = self._steps = None
        if producer is not None and steps is not None:
            try:
                steps.close()
            finally:
                producer.close()

    def give_up(self) -> None:
        """After an error: nothing is recorded any more, and the trace ends with what it has."""
        producer, self._producer, self._steps = self._producer, None, None
        try:
            if producer is not None and self._armed:
                producer.abort()
                producer.close()
        except Exception as error:
            _log.debug("moetrace: %r", error)


def _captures_itself(config: Any) -> bool:
    """Is vLLM's own capture of routed experts on? The setting has moved once."""
    return any(getattr(getattr(config, part, None), "enable_return_routed_experts", False)
               for part in ("model_config", "aux_output_config"))


def _refuse(config: Any, model: Any, layers: list[_layers.Layer]) -> Optional[str]:
    """Why no row could be told from another, or some would never be seen; None: they can, and are."""
    parallel = config.parallel_config
    moe = [getattr(layer.module, "moe_config", None) for layer in layers]
    if getattr(parallel, "use_ubatching", False):
        return "dual-batch overlap splits the rows of a step before routing; run without --enable-dbo"
    if getattr(parallel, "prefill_context_parallel_size", 1) > 1:
        return "prefill context parallelism gathers rows of several ranks before routing; run without it"
    if any(getattr(c, "is_sequence_parallel", False) for c in moe) or \
            any(getattr(module, "use_sequence_parallel", False) is True and _holds_one(module, layers) for module in model.modules()):
        return "sequence parallelism splits the rows of a step before routing; use an all2all backend without it"
    if any(getattr(layer.module, "do_naive_dispatch_combine", False) for layer in layers):
        return "this all2all backend gathers the rows of all data-parallel ranks before routing; choose another"
    if getattr(config.cache_config, "kv_sharing_fast_prefill", False):
        return "fast prefill with a shared cache leaves rows out; run without --kv-sharing-fast-prefill"
    if getattr(model, "decoder_replay_layers", None) is not None:
        return "its late layers see the last rows of a long prompt alone; run with --no-swa-bounded-replay"
    if any(getattr(module, name, None) is not None for module in model.modules()
           for name in ("specialized_decode_config", "bf16_decode", "nvfp4_input_global_scale")):
        return "small batches may go past its routers, into kernels that route by themselves"
    return None


def _holds_one(module: Any, layers: list[_layers.Layer]) -> bool:
    moe = {layer.module for layer in layers}
    return any(inner in moe for inner in module.modules())


def _describe(runner: Any, layers: list[_layers.Layer], top_k: int) -> dict[str, Any]:
    """What `Producer` wants to know, from vLLM's configuration."""
    import vllm
    from vllm.distributed import parallel_state

    config = runner.vllm_config
    model, parallel = config.model_config, config.parallel_config
    router = layers[0].router
    groups = getattr(router, "num_expert_group", None) or None
    groups = groups if (groups or 1) > 1 else None
    return {"model_id": model.model, "engine": "vllm", "engine_version": vllm.__version__, "vllm_version": vllm.__version__,
            "torch_version": torch.__version__, "seed": model.seed,
            "num_layers": model.get_total_num_hidden_layers(), "num_experts": model.get_num_experts(), "top_k": top_k,
            "moe_layers": [layer.index for layer in layers],
            "router_score": getattr(router, "scoring_func", None),
            "router_renormalized": bool(getattr(router, "renormalize", False)),
            "router_scaling": float(getattr(router, "routed_scaling_factor", None) or 1.0),
            "router_biased": getattr(router, "e_score_correction_bias", None) is not None,
            "router_groups": groups, "router_topk_groups": getattr(router, "topk_group", None) if groups else None,
            "rank": parallel.rank, "world_size": parallel.world_size_across_dp, "tp_rank": _tp_rank(),
            "dp_rank": parallel.data_parallel_rank, "pp_rank": parallel_state.get_pp_group().rank_in_group,
            "ep_rank": parallel_state.get_ep_group().rank_in_group if parallel.enable_expert_parallel else 0,
            "cuda_device": runner.device.index if runner.device.type == "cuda" else None}


def _notes(layers: list[_layers.Layer], top_k: int) -> list[str]:
    """What a reader of the trace must know of the layers that are recorded."""
    notes = sorted({f"layer {layer.index}: {layer.note}" for layer in layers if layer.note})
    scalings = {getattr(layer.module, "routed_scaling_factor", 1.0) for layer in layers} - {1.0, None}
    notes += [f"weights are before a factor of {scaling}, which vLLM leaves to the experts' output" for scaling in scalings]
    if any(getattr(layer.router, "zero_expert_type", None) for layer in layers):
        notes.append("picks of zero experts are recorded as expert 0 with weight 0, as vLLM hands them on")
    if any(getattr(layer.router, "num_fused_shared_experts", 0) for layer in layers):
        notes.append(f"shared experts are fused into the kernel; the first {top_k} columns are recorded, which are routed")
    return notes


def _config_top_k(config: Any) -> int:
    text = config.model_config.hf_text_config
    for name in ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "top_k"):
        if isinstance(getattr(text, name, None), int):
            return getattr(text, name)
    raise TracingError("the configuration does not say how many experts a token is routed to")


def _tp_rank() -> int:
    from vllm.distributed import parallel_state

    return parallel_state.get_tp_group().rank_in_group


class _Unread(Producer):
    def _say_unserved(self) -> None:
        """Nobody is meant to."""


def _unread(runner: Any, layers: list[_layers.Layer], top_k: int) -> Producer:
    """The hook of a tensor-parallel rank other than 0: the same kernels, so that all ranks replay the same graph, but never
    announced to, and with a ring that no collector sees."""
    with tempfile.TemporaryDirectory(prefix="moetrace-", dir="/dev/shm") as folder:
        return _Unread(**{**_describe(runner, layers, top_k), "directory": folder, "ring_mb": 0.0625})


def _salt_cache(config: Any, key: int) -> None:
    """vLLM keeps compiled graphs from run to run; one that has the operator in it is another graph."""
    compute_hash = config.compute_hash

    def salted() -> str:
        return f"{compute_hash()}-moetrace{key}"

    object.__setattr__(config, "compute_hash", salted)
