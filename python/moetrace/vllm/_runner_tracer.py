"""The trace of one model runner: its ring, its requests, and what each step announces."""

from __future__ import annotations

import logging
import re
import tempfile
from typing import Any, Optional

import torch

from ..errors import TracingError
from ..recording import _adapter, _library, _torch_op
from ..recording.producer import Producer
from . import _layers, _refusals, _routers, _sizes

_log = logging.getLogger("moetrace")


class RunnerTracer:
    """Lives in the process that holds the model, from the end of its loading."""

    @classmethod
    def of(cls, runner: Any) -> Optional[RunnerTracer]:
        """The tracer of a model runner whose model has been loaded, with all layers bound. None:
        the model has no MoE layers.

        Raises TracingError for a mode in which rows lose their place, and for a ring that can't be
        made.
        """
        config, model = runner.vllm_config, runner.get_model()
        layers, missed = _layers.find(model, _refusals.captures_itself(config))
        if not layers and not missed:
            if (
                getattr(config.model_config, "is_moe", False)
                and config.parallel_config.pipeline_parallel_size == 1
            ):
                raise TracingError("none of its MoE layers is of a kind that can be recorded")
            return None
        why = _refusals.refusal(config, model, layers)
        if why:
            raise TracingError(why)
        count = config.model_config.get_total_num_hidden_layers()
        for layer in layers:
            if layer.number >= count:
                missed[layer.number] = f"by its configuration the model has {count} layers"
        layers = [layer for layer in layers if layer.number not in missed]
        notes = [
            f"layer {index} is not recorded: {reason}" for index, reason in sorted(missed.items())
        ]
        for note in notes:
            _log.warning("moetrace: %s", note)
        if not layers:
            raise TracingError("none of its layers can be recorded")
        return cls(runner, layers, notes)

    def __init__(self, runner: Any, layers: list[_layers.Layer], notes: list[str]):
        config = runner.vllm_config
        described = _describe(runner, layers)
        table = described["layer_table"]
        self._top_k = {layer: info.top_k or described["top_k"] for layer, info in table.items()}
        self._on_gpu = runner.device.type == "cuda"
        self._armed = _tp_rank() == 0  # the other ranks see the same rows
        # A model that denoises blocks of tokens sets only the second: it drops tokens that it was
        # fed, as speculation does.
        speculative = (
            config.speculative_config is not None
            or getattr(config, "num_speculative_tokens", 0) > 0
        )
        asynchronous = bool(config.scheduler_config.async_scheduling)
        adaptive = bool(getattr(config.speculative_config, "enable_adaptive_verification", False))
        more = []
        if adaptive:
            more.append(
                "adaptive verification assigns rows to requests on the GPU: rows have no request"
            )
        elif speculative and asynchronous:
            more.append(
                "tokens may be rejected after the next pass has been enqueued, "
                "so that positions are not known in time: rows have none"
            )
        more += _refusals.notes_on(layers)
        for note in more:
            _log.warning("moetrace: %s", note)
        self._failed = False  # recording has raised; the next step ends the trace
        self._producer: Optional[Producer] = None
        self._steps: Any = None  # moetrace_steps.Steps, of python/vllm_steps
        if self._armed:
            steps = _library.load_compiled("moetrace_steps")
            self._producer = Producer(**described, notes=[*notes, *more])
            self._steps = steps.Steps(
                self._producer, speculative, asynchronous, rows_known=not adaptive
            )
        elif self._on_gpu:
            self._producer = _unread(described)
        if self._producer is None:
            return
        try:
            self._bind(layers, config, runner.device)
        except Exception:
            self.give_up()
            raise
        if self._armed:
            _log.info("moetrace: tracing %s", self._producer.summary)
        _adapter.call_at_exit(self.close)

    def _bind(self, layers: list[_layers.Layer], config: Any, device: torch.device) -> None:
        record: _layers.Record
        join: Optional[_layers.Join] = None
        if self._on_gpu:
            record, join = self._launch, self._join
            self._buffers = _layers.Buffers(layers)
            self._say_in_line = _adapter.SayOnce()
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
        """The operator's recorder on a CPU."""
        if self._producer is not None:
            self._producer.record(layer, *_adapter.routed_columns(ids, weights, self._top_k[layer]))

    def _launch(self, layer: int, ids: Any, weights: Any) -> None:
        """On a GPU, just before the layer's experts are enqueued: Python runs in eager mode and
        under capture.

        The producer holds every layer's tensors until the end of the pass, so that one kernel can
        record all of them. Layers that share a buffer are recorded in line.
        """
        if self._producer is None or self._failed:
            return
        try:
            ids, weights = _adapter.routed_columns(ids, weights, self._top_k[layer])
            deferred = not self._buffers.shared(layer, ids.data_ptr())
            if not deferred:
                self._say_in_line(
                    "the layers share a buffer, so that each is recorded in line, which takes "
                    "2 to 5 us a layer in each pass"
                )
            self._producer.record(layer, ids, weights, deferred=deferred)
        except Exception as error:
            # The engine must go on, and its capture must stay whole: the next step gives up.
            self._failed = True
            _log.warning(
                "moetrace: recording has stopped: layer %d: %s", layer, _adapter.in_one_line(error)
            )

    def _join(self) -> None:
        if self._producer is not None:
            self._producer.join()

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
        """Stops recording after an error. The trace ends with the rows that it has."""
        producer, self._producer, self._steps = self._producer, None, None
        try:
            if producer is not None and self._armed:
                producer.abort()
                producer.close()
        except Exception as error:
            _log.debug("moetrace: %r", error)


def _describe(runner: Any, layers: list[_layers.Layer]) -> dict[str, Any]:
    """The arguments of `Producer`, from vLLM's configuration and its layers."""
    import vllm
    from vllm.distributed import parallel_state

    config = runner.vllm_config
    model, parallel = config.model_config, config.parallel_config
    redundant = bool(getattr(parallel, "enable_eplb", False))
    table = {
        layer.number: _routers.describe(layer.module, layer.router, redundant) for layer in layers
    }
    first = table[layers[0].number]
    grouped = (first.groups or 1) > 1
    return {
        "model_id": model.model,
        "engine": "vllm",
        "engine_version": vllm.__version__,
        "vllm_version": vllm.__version__,
        "torch_version": torch.__version__,
        "seed": model.seed,
        "num_layers": model.get_total_num_hidden_layers(),
        # Some configurations do not say it in a way that vLLM knows, and give 0.
        "num_experts": max(
            model.get_num_experts(), *(info.experts or 0 for info in table.values())
        ),
        "top_k": _adapter.most_of(
            [info.top_k for info in table.values()],
            lambda: _adapter.top_k_of(model.hf_text_config, "this model can't be traced yet"),
        ),
        "layer_table": table,
        "largest_step": _sizes.largest_step(config),
        "engine_id": _adapter.given_engine_id(_instance_of(config)),
        "router_score": first.score,
        "router_renormalized": bool(first.renormalized),
        "router_scaling": first.scaling or 1.0,
        "router_biased": bool(first.biased),
        "router_groups": first.groups if grouped else None,
        "router_topk_groups": first.topk_groups if grouped else None,
        "rank": parallel.rank,
        "world_size": parallel.world_size_across_dp,
        "tp_rank": _tp_rank(),
        "dp_rank": parallel.data_parallel_rank,
        "pp_rank": parallel_state.get_pp_group().rank_in_group,
        "ep_rank": parallel_state.get_ep_group().rank_in_group
        if parallel.enable_expert_parallel
        else 0,
        "cuda_device": _adapter.cuda_device_of(runner.device),
    }


def _instance_of(config: Any) -> str:
    """What vLLM calls this engine, without the suffix that some releases add for each data-parallel
    rank; "": it does not say."""
    return re.sub(r"_dp\d+$", "", str(getattr(config, "instance_id", None) or ""))


def _tp_rank() -> int:
    from vllm.distributed import parallel_state

    return parallel_state.get_tp_group().rank_in_group


class _Unread(Producer):
    def _say_unserved(self) -> None:
        """Does nothing: no collector is meant to serve this ring."""


def _unread(described: dict[str, Any]) -> Producer:
    """The hook of a tensor-parallel rank other than 0: the same kernels, so that all ranks replay
    the same graph. It is never announced to, and no collector sees its ring."""
    with tempfile.TemporaryDirectory(prefix="moetrace-", dir="/dev/shm") as folder:
        return _Unread(**{**described, "directory": folder, "ring_mb": 0.0625})


def _salt_cache(config: Any, key: int) -> None:
    """Gives graphs with the operator another cache key: vLLM keeps compiled graphs between runs."""
    compute_hash = config.compute_hash

    def salted() -> str:
        return f"{compute_hash()}-moetrace{key}"

    object.__setattr__(config, "compute_hash", salted)
