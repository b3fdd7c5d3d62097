"""The hook as an operator of PyTorch (2.4 or later) without a C++ build, for compiled models:

    torch.ops.moetrace_py.record(Tensor(a!) token, Tensor ids, Tensor? weights, int layer, int key)

The call goes to the recorder that is bound to `key` when it runs, with (layer, ids, weights), on a
CPU and on a GPU. On a GPU the recorder launches into the current stream, so that a CUDA graph
captures it. Without a recorder, as while a model warms up, the call does nothing: a graph holds
numbers and no Python object.

The schema declares `token` as mutated, so that no compiler drops the call; its value never changes.
Pass `token_on(device)`, or a tensor that the graph reads afterwards. The operator needs no graph
break, does not take part in autograd, and never raises in the model.
"""

from __future__ import annotations

import functools
import itertools
import logging
from typing import Any, Callable, Optional

import torch

from ._adapter import in_one_line

_log = logging.getLogger("moetrace")

# (layer, ids, weights): tensors as the model has them, of any shape and strides. A recorder must
# not keep them after the call on a CPU; on a GPU they live as for any kernel of the current stream.
Recorder = Callable[[int, torch.Tensor, Optional[torch.Tensor]], None]

_recorders: dict[int, Recorder] = {}
_keys = itertools.count()


def new_key() -> int:
    """A number for `bind`, unique in the process."""
    return next(_keys)


def bind(key: int, recorder: Optional[Recorder]) -> None:
    """Sends calls with `key` to `recorder`, such as `Producer.record`; None: calls do nothing.

    A recorder that raises is unbound, and the logger "moetrace" gets one line.
    """
    if recorder is None:
        _recorders.pop(key, None)
    else:
        _recorders[key] = recorder


@functools.cache
def token_on(device: torch.device) -> torch.Tensor:
    """The tensor that `record` declares as mutated: an input of every graph that has the call. Call
    this outside of the graph."""
    with torch.inference_mode(False):
        token = torch.zeros(1, device=device)
    # Without the mark, a mutated input keeps the compiler from capturing a CUDA graph.
    torch._dynamo.mark_static_address(token)
    return token


@torch.compiler.disable
def _record(_token: Any, ids: Any, weights: Any, layer: int, key: int) -> None:
    recorder = _recorders.get(key)
    if recorder is None:
        return
    try:
        recorder(layer, ids, weights)
    except Exception as error:  # the model must go on
        bind(key, None)
        _log.warning("moetrace: recording has stopped: layer %d: %s", layer, in_one_line(error))


def _fake(_token: Any, _ids: Any, _weights: Any, _layer: int, _key: int) -> None:
    """What a compiler runs while it traces a graph: no result, no rows."""


_LIBRARY = torch.library.Library("moetrace_py", "DEF")  # the operator lives as long as this object
_LIBRARY.define("record(Tensor(a!) token, Tensor ids, Tensor? weights, int layer, int key) -> ()")
for _backend in ("CPU", "CUDA"):
    _LIBRARY.impl("record", _record, _backend)
# No value changes, so that there is nothing to differentiate.
_LIBRARY.impl("record", torch.library.fallthrough_kernel, "Autograd")
torch.library.register_fake("moetrace_py::record", _fake, lib=_LIBRARY)
record = torch.ops.moetrace_py.record.default


def routed(
    token: torch.Tensor,
    layer: int,
    key: int,
    ids: Optional[torch.Tensor],
    weights: Optional[torch.Tensor],
) -> None:
    """`record` for what a layer's hook has seen, called in the graph.

    Where the hook found no ids, the recorder gets `token`, a tensor of floats that it must refuse.
    """
    record(token, token.clone() if ids is None else ids, weights, layer, key)
