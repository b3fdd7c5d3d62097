"""Where a transformers model routes: the module of each layer that sees ids and weights."""

from __future__ import annotations

import inspect
import re
from typing import Any, Callable, Iterator, NamedTuple, Optional

from ..recording import _adapter

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
# Blocks of transformers 4 whose gate is a Linear. Their forward computes softmax in float32, then
# top-k, and so does the hook.
_LINEAR_GATED = re.compile(r"(Qwen2Moe|Qwen3Moe|Olmoe|Mixtral)SparseMoeBlock$")
# Routers that return ids and weights, and nothing that could be taken for them.
_TOP_K_ROUTER = re.compile(r"Top[kK]Router$")

Routed = Callable[[Any, Any], None]  # (ids, weights), each [rows, top_k]


class Binding(NamedTuple):
    """One layer and its hook: `attach(routed)` returns the handle that removes the hook."""

    layer: int
    module: Any
    attach: Callable[[Routed], Any]
    # What the layer's modules say of it; None: nothing, or different things.
    experts: Optional[int] = None
    top_k: Optional[int] = None


def find(model: Any) -> tuple[list[Binding], list[int]]:
    """The layers of `model` that can be recorded, in order, and the other MoE layers."""
    bound: dict[int, Binding] = {}
    seen: set[int] = set()
    twice: set[int] = set()
    for layer, modules in _layers(model).items():
        found = [
            binding
            for binding in (_bind(layer, name, module) for name, module in modules)
            if binding
        ]
        if any(name.rsplit(".", 1)[-1] in ("experts", "router") for name, _ in modules):
            seen.add(layer)
        # The experts come first: what they are given is final, whatever the router returned.
        found.sort(key=lambda binding: binding[0])
        best = [binding for rank, binding in found if rank == found[0][0]]
        if len(best) > 1:
            # An encoder's layer and a decoder's, or two routers in one layer: ambiguous.
            twice.add(layer)
        elif best:
            bound[layer] = best[0]._replace(
                experts=_said(modules, "num_experts"), top_k=_said(modules, "top_k")
            )
    return [bound[layer] for layer in sorted(bound)], sorted((seen | twice) - set(bound))


def _said(modules: list[tuple[str, Any]], name: str) -> Optional[int]:
    said = {_adapter.positive(getattr(module, name, None)) for _, module in modules} - {None}
    return said.pop() if len(said) == 1 else None


def _layers(model: Any) -> dict[int, list[tuple[str, Any]]]:
    layers: dict[int, list[tuple[str, Any]]] = {}
    for name, module in model.named_modules():
        match = _LAYER.search(name)
        if match:
            layers.setdefault(int(match[1]), []).append((name, module))
    return layers


def _bind(layer: int, name: str, module: Any) -> Optional[tuple[int, Binding]]:
    """The binding of a module, with its rank: the lower, the better."""
    kind = type(module).__name__
    if name.endswith("experts") and {"top_k_index", "top_k_weights"} <= set(_parameters(module)):
        return 0, Binding(layer, module, lambda routed: _hook_experts(module, routed))
    if _TOP_K_ROUTER.search(kind):
        return 1, Binding(layer, module, lambda routed: _hook_router(module, routed))
    block = _LINEAR_GATED.match(kind)
    if block and type(getattr(module, "gate", None)).__name__ == "Linear":
        renormalized = getattr(module, "norm_topk_prob", block[1] == "Mixtral")
        return 1, Binding(
            layer,
            module,
            lambda routed: _hook_gate(module.gate, module.top_k, renormalized, routed),
        )
    return None


def _parameters(module: Any) -> list[str]:
    try:
        return list(inspect.signature(module.forward).parameters)
    except (AttributeError, TypeError, ValueError):
        return []


def _hook_experts(module: Any, routed: Routed) -> Any:
    names = _parameters(module)
    at_ids, at_weights = names.index("top_k_index"), names.index("top_k_weights")

    def before(_module, args, kwargs):
        ids = args[at_ids] if at_ids < len(args) else kwargs["top_k_index"]
        weights = args[at_weights] if at_weights < len(args) else kwargs["top_k_weights"]
        routed(ids, weights)

    return module.register_forward_pre_hook(before, with_kwargs=True)


def _hook_router(module: Any, routed: Routed) -> Any:
    def after(_module, _args, output):
        tensors = list(_tensors(output))
        ids = next((t for t in tensors if not t.is_floating_point()), None)
        weights = next(
            (
                t
                for t in tensors
                if ids is not None and t.is_floating_point() and t.shape == ids.shape
            ),
            None,
        )
        routed(ids, weights)

    return module.register_forward_hook(after)


def _tensors(output: Any) -> Iterator[Any]:
    values = output if isinstance(output, tuple) else (output,)
    return (value for value in values if hasattr(value, "is_floating_point"))


def _hook_gate(gate: Any, top_k: int, renormalized: bool, routed: Routed) -> Any:
    def after(_module, _args, logits):
        weights, ids = logits.detach().float().softmax(-1).topk(top_k, -1)
        if renormalized:
            weights = weights / weights.sum(-1, keepdim=True)
        routed(ids, weights.to(logits.dtype))

    return gate.register_forward_hook(after)
