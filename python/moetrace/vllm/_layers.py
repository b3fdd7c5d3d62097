"""Binding vLLM's MoE layers: where each of them has its logical expert ids and weights."""

from __future__ import annotations

import functools
import re
import sys
from typing import Any, Callable, NamedTuple, Optional, Union

_INDEX = re.compile(r"\.(\d+)\.")

# (layer, ids [rows, k], weights [rows, k] or None), after the router.
Record = Callable[[int, Any, Any], None]
# Called when the experts of the layer have been enqueued, and so those of all layers before it.
Join = Callable[[], None]


class Layer(NamedTuple):
    """An MoE layer that can be bound. `bind(record, join)` makes it call both in every pass; join
    is None for all layers but the last."""

    number: int
    module: Any
    router: Any  # has top_k, and what `meta` says of the router
    bind: Callable[[Record, Optional[Join]], None]
    note: Optional[str]  # what a reader of the trace must know of the layer
    keeps: bool = True  # its tensors, if held, keep their values until the end of the pass


class Buffers:
    """Whether layers write their routing over that of an earlier layer of the same pass.

    While a pass's tensors are held, two layers with one address share a buffer. The first pass
    shows it; it is vLLM's own, to profile memory. What is once shared stays shared.
    """

    def __init__(self, layers: list[Layer]):
        self._first = layers[0].number
        self._seen: set[int] = set()  # addresses of this pass
        self._shared = not all(layer.keeps for layer in layers)

    def shared(self, layer: int, address: int) -> bool:
        """To be asked for each layer of a pass, in ascending order, with its ids' address."""
        if layer == self._first:
            self._seen.clear()
        self._shared |= address in self._seen
        self._seen.add(address)
        return self._shared


def find(model: Any, callbacks_taken: bool) -> tuple[list[Layer], dict[int, str]]:
    """The layers of `model` that can be recorded, in order, and why the others can't.

    Modules that have a router and routed experts are MoE layers. Weights and ids are taken where
    the router returns them: before the load balancer turns logical ids into physical ones.
    callbacks_taken: vLLM's own capture is on, and needs the layers' callbacks.
    """
    layers: dict[int, Layer] = {}
    missed: dict[int, str] = {}
    for name, module in model.named_modules():
        has_experts = hasattr(module, "router") and hasattr(module, "_apply_quant_method")
        if not has_experts and not _is_capture_source(module):
            continue
        index = _index_of(name, module)
        if index is None:
            continue
        found = _layer(index, module, callbacks_taken)
        if isinstance(found, str):
            missed[index] = found
        elif index in layers:
            missed[index] = "two routers have the same layer number"
            del layers[index]
        elif index not in missed:
            layers[index] = found
    return [layers[index] for index in sorted(layers)], dict(sorted(missed.items()))


def _index_of(name: str, module: Any) -> Optional[int]:
    match = _INDEX.search(f".{getattr(module, 'layer_name', None) or name}.")
    return int(match[1]) if match else None


def _is_capture_source(module: Any) -> bool:
    """A model's own router that passes its ids to a callback: vLLM's RoutedExpertsCaptureSource."""
    return hasattr(module, "capture_fn") and hasattr(module, "layer_id")


def _layer(index: int, module: Any, callbacks_taken: bool) -> Union[Layer, str]:
    if _is_capture_source(module):
        if callbacks_taken:
            return "enable_return_routed_experts needs its only callback"
        bind = functools.partial(_chain_capture, module, index)
        return Layer(index, module, module, bind, "its weights are not given", keeps=False)
    router = module.router
    monolithic = bool(getattr(module, "is_monolithic", False))
    if not monolithic and hasattr(router, "_compute_routing"):
        # Where experts are substituted, the kernel writes its ids over the router's.
        keeps = not hasattr(getattr(module, "routed_experts", None), "expert_substitution")
        bind = functools.partial(_wrap_router, module, index)
        return Layer(index, module, router, bind, None, keeps)
    if monolithic and _cpu_select_experts() is not None:
        bind = functools.partial(_wrap_cpu_selection, module, index)
        return Layer(index, module, router, bind, None)
    if type(router).__name__ == "RoutingSimulatorRouter":
        return "its kernel routes by random numbers of its own"
    if monolithic and hasattr(router, "_compute_routing"):
        return Layer(index, module, router, functools.partial(_recompute, module, index), None)
    return f"neither {type(router).__name__} nor its kernel tells which experts it picks"


def _wrap_router(module: Any, index: int, record: Record, join: Optional[Join]) -> None:
    router = module.router
    compute = router._compute_routing

    @functools.wraps(compute)
    def compute_and_record(*args: Any, **kwargs: Any) -> Any:
        weights, ids = compute(*args, **kwargs)
        record(index, ids, weights)
        return weights, ids

    router._compute_routing = compute_and_record
    if join is not None:
        _wrap_experts(module, join)


def _wrap_experts(module: Any, join: Join) -> None:
    apply = module._apply_quant_method

    @functools.wraps(apply)
    def apply_and_join(*args: Any, **kwargs: Any) -> Any:
        result = apply(*args, **kwargs)
        join()
        return result

    module._apply_quant_method = apply_and_join


def _recompute(module: Any, index: int, record: Record, join: Optional[Join]) -> None:
    """For a kernel that routes by itself: the router computes the same routing once more."""
    apply = module._apply_quant_method

    @functools.wraps(apply)
    def route_and_apply(hidden_states: Any, router_logits: Any, *args: Any, **kwargs: Any) -> Any:
        weights, ids = module.router._compute_routing(
            hidden_states, router_logits, None, input_ids=kwargs.get("input_ids")
        )
        record(index, ids, weights)
        result = apply(hidden_states, router_logits, *args, **kwargs)
        if join is not None:
            join()
        return result

    module._apply_quant_method = route_and_apply


def _chain_capture(module: Any, index: int, record: Record, join: Optional[Join]) -> None:
    """Such a layer does not say when its experts have been enqueued, so that the join follows at
    once."""
    before = module.capture_fn

    def capture(ids: Any) -> None:
        record(index, ids, None)
        if join is not None:
            join()
        if before is not None:
            before(ids)

    module.capture_fn = capture


# The CPU kernels of vLLM up to about 0.27 route by themselves, in a function that all of them call
# and that does not know its layer.

_CPU_MODULE = "vllm.model_executor.layers.fused_moe.cpu_fused_moe"


class _Current:
    """The layer whose experts are being computed, for the function below. An object with
    attributes: a compiler can follow their changes."""

    def __init__(self) -> None:
        self.layer: Optional[int] = None
        self.record: Optional[Record] = None


_current = _Current()


def _cpu_select_experts() -> Optional[Callable]:
    return getattr(sys.modules.get(_CPU_MODULE), "select_experts", None)


def _wrap_cpu_selection(module: Any, index: int, record: Record, _join: Optional[Join]) -> None:
    _record_cpu_selection()
    apply = module._apply_quant_method

    @functools.wraps(apply)
    def apply_as_layer(*args: Any, **kwargs: Any) -> Any:
        _current.layer, _current.record = index, record
        result = apply(*args, **kwargs)
        _current.layer = None
        return result

    module._apply_quant_method = apply_as_layer


@functools.cache
def _record_cpu_selection() -> None:
    select = _cpu_select_experts()
    assert select is not None

    @functools.wraps(select)
    def select_and_record(*args: Any, **kwargs: Any) -> Any:
        weights, ids = select(*args, **kwargs)
        if _current.layer is not None and _current.record is not None:
            _current.record(_current.layer, ids, weights)
        return weights, ids

    for module in list(sys.modules.values()):  # some have imported the function by name
        if getattr(module, "select_experts", None) is select:
            setattr(module, "select_experts", select_and_record)  # noqa: B010
