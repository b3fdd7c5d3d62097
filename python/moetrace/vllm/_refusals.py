"""Modes of vLLM in which rows lose their place, and what a reader must know of recorded layers."""

from __future__ import annotations

from typing import Any, Optional

from . import _layers


def refusal(config: Any, model: Any, layers: list[_layers.Layer]) -> Optional[str]:
    """Why rows could not be told apart, or some would never be seen; None: the engine can be
    traced."""
    parallel = config.parallel_config
    moe = [getattr(layer.module, "moe_config", None) for layer in layers]
    if getattr(parallel, "use_ubatching", False):
        return (
            "dual-batch overlap splits the rows of a step before routing; run without --enable-dbo"
        )
    if getattr(parallel, "prefill_context_parallel_size", 1) > 1:
        return (
            "prefill context parallelism gathers rows of several ranks before routing; "
            "run without it"
        )
    if any(getattr(c, "is_sequence_parallel", False) for c in moe) or any(
        getattr(module, "use_sequence_parallel", False) is True and _holds_one(module, layers)
        for module in model.modules()
    ):
        return (
            "sequence parallelism splits the rows of a step before routing; "
            "use an all2all backend without it"
        )
    if any(getattr(layer.module, "do_naive_dispatch_combine", False) for layer in layers):
        return (
            "this all2all backend gathers the rows of all data-parallel ranks before routing; "
            "choose another"
        )
    if getattr(config.cache_config, "kv_sharing_fast_prefill", False):
        return (
            "fast prefill of a shared cache leaves rows out; run without --kv-sharing-fast-prefill"
        )
    if getattr(model, "decoder_replay_layers", None) is not None:
        return (
            "its late layers see only the last rows of a long prompt; "
            "run with --no-swa-bounded-replay"
        )
    if any(
        getattr(module, name, None) is not None
        for module in model.modules()
        for name in ("specialized_decode_config", "bf16_decode", "nvfp4_input_global_scale")
    ):
        return "small batches may go past its routers, into kernels that route by themselves"
    return None


def _holds_one(module: Any, layers: list[_layers.Layer]) -> bool:
    moe = {layer.module for layer in layers}
    return any(inner in moe for inner in module.modules())


def captures_itself(config: Any) -> bool:
    """Whether vLLM's own capture of routed experts is on. Releases keep the setting in one of two
    places."""
    return any(
        getattr(getattr(config, part, None), "enable_return_routed_experts", False)
        for part in ("model_config", "aux_output_config")
    )


def notes_on(layers: list[_layers.Layer]) -> list[str]:
    """What a reader of the trace must know of the recorded layers, a line each."""
    notes = sorted({f"layer {layer.number}: {layer.note}" for layer in layers if layer.note})
    scalings = {getattr(layer.module, "routed_scaling_factor", 1.0) for layer in layers}
    notes += [
        f"weights are before a factor of {scaling}, which vLLM applies to the experts' output"
        for scaling in sorted(scalings - {1.0, None})
    ]
    if any(getattr(layer.router, "zero_expert_type", None) for layer in layers):
        notes.append(
            "picks of zero experts are recorded as expert 0 with weight 0, as vLLM returns them"
        )
    if any(getattr(layer.router, "num_fused_shared_experts", 0) for layer in layers):
        notes.append(
            "shared experts are fused into the kernel; only the picks of routed experts are recorded"
        )
    return notes
