"""LayerInfo, and the layer table of the C API that is made of it."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Optional

from . import _arguments, _library

_MOST_LAYERS = 256  # MOETRACE_MAX_LAYERS
_SCORE_BYTES = _library.LayerEntry.score.size - 1  # the last byte is a 0


class LayerInfo(NamedTuple):
    """What is known of one MoE layer. None: not known.

    The ids of its rows are below experts + zero_experts, or below the producer's num_experts if
    either is None. Its rows have top_k ids, or the producer's top_k if it is None.
    """

    experts: Optional[int] = None  # routed experts, ids from 0
    zero_experts: Optional[int] = None  # zero-computation experts, ids after those
    top_k: Optional[int] = None
    score: Optional[str] = None  # "softmax", "sigmoid", ...; at most 23 bytes are kept
    renormalized: Optional[bool] = None  # the weights of a row are divided by their sum
    scaling: Optional[float] = None  # the weights are multiplied by it
    biased: Optional[bool] = None  # experts are chosen by score plus bias
    groups: Optional[int] = None  # chosen within the best topk_groups of these; 1 and 1: among all
    topk_groups: Optional[int] = None
    table: Optional[bool] = None  # experts are looked up by the token's id, not chosen by a score


def layer_table(layers: Mapping[int, LayerInfo], num_layers: int) -> Any:
    """moetrace_options.layer_table: an array of num_layers entries. Raises TypeError or ValueError,
    with one line, for a layer or value that can't be one."""
    entries = (_library.LayerEntry * _arguments.number("num_layers", num_layers, _MOST_LAYERS))()
    for layer, info in layers.items():
        where = f"layer_table: layer {layer}"
        if not isinstance(info, LayerInfo):
            raise TypeError(f"{where} is {_arguments.shown(info)}; give a moetrace.LayerInfo")
        index = _arguments.number("layer_table: layer", layer, num_layers - 1)
        _fill(entries[index], info, where)
    return entries


def _fill(entry: Any, info: LayerInfo, where: str) -> None:
    for name in ("experts", "zero_experts", "top_k", "groups", "topk_groups"):
        value = getattr(info, name)
        if value is not None:
            setattr(entry, name, _arguments.number(f"{where}: {name}", value, _arguments.MOST_U32))
    if info.zero_experts is not None:
        entry.flags |= _library.ZERO_EXPERTS_KNOWN
    if (info.groups is None) != (info.topk_groups is None):
        raise ValueError(f"{where}: groups and topk_groups go together; give both or neither")
    if info.groups is not None:
        entry.flags |= _library.GROUPS_KNOWN
    if info.scaling is not None:
        entry.flags |= _library.SCALING_KNOWN
        entry.scaling = float(info.scaling)
    for value, known in (
        (info.renormalized, _library.RENORMALIZED_KNOWN),
        (info.biased, _library.BIASED_KNOWN),
        (info.table, _library.TABLE_KNOWN),
    ):
        if value is not None:  # the bit above KNOWN is the value
            entry.flags |= known | (known << 1 if value else 0)
    if info.score is not None:
        cut = _arguments.text(f"{where}: score", info.score)[:_SCORE_BYTES]
        entry.score = cut.decode(errors="ignore").encode()
