"""The options of a producer, from its arguments."""

from __future__ import annotations

import ctypes
from typing import Any, Iterable

from . import _library
from ._layer_info import layer_table

_TEXTS = (
    "directory",
    "session",
    "layers",
    "model_id",
    "engine",
    "engine_version",
    "vllm_version",
    "torch_version",
    "device",
    "router_score",
    "engine_id",
)
_NUMBERS = (
    "num_layers",
    "num_experts",
    "top_k",
    "router_renormalized",
    "router_scaling",
    "router_biased",
    "router_groups",
    "router_topk_groups",
    "rank",
    "world_size",
    "tp_rank",
    "dp_rank",
    "pp_rank",
    "ep_rank",
    "sample_every",
    "ring_mb",
    "largest_step",
    "cuda_device",
)


def options_of(given: dict[str, Any]) -> _library.Options:
    """moetrace_options of the arguments of `Producer`, by their names. None: the default. Raises
    TypeError or ValueError, with one line, for a layer that can't be one."""
    options = _library.Options()
    _library.load().moetrace_options_init(ctypes.byref(options), ctypes.sizeof(options))
    layers, device = given["layers"], given["device"]
    if layers is not None and not isinstance(layers, str):
        layers = ",".join(map(str, sorted(layers)))
    if device is None:
        device = "cpu" if given["cuda_device"] is None else "cuda"
    given = {**given, "layers": layers, "device": device}
    for name in _TEXTS:
        if given[name] is not None:
            setattr(options, name, given[name].encode())
    options.notes = "\n".join(" ".join(note.split()) for note in given["notes"]).encode()
    for name in _NUMBERS:
        if given[name] is not None:
            setattr(options, name, given[name])
    if given["seed"] is not None:
        options.has_seed, options.seed = 1, given["seed"]
    moe_layers = given["moe_layers"]
    if given["layer_table"] is not None:
        table = layer_table(given["layer_table"], given["num_layers"])
        options.layer_table = ctypes.cast(table, ctypes.POINTER(_library.LayerEntry))
        moe_layers = given["layer_table"] if moe_layers is None else moe_layers
    if moe_layers is not None:
        options.moe_layers = ctypes.pointer(_layer_mask(moe_layers))
    return options


def _layer_mask(layers: Iterable[int]) -> _library.LayerMask:
    mask = _library.LayerMask()
    for layer in layers:
        if not 0 <= layer < 256:
            raise ValueError(f"moe_layers: {layer} is not a layer; expected 0 to 255")
        mask.words[layer // 64] |= 1 << layer % 64
    return mask
