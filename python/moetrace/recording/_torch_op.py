"""The hook as an operator of PyTorch (2.4 or later) without a C++ build, for models that torch.compile sees:

    torch.ops.moetrace_py.record(Tensor(a!) token, Tensor ids, Tensor? weights, int layer, int key) -> ()

Whoever is bound to `key` when the call runs is called with (layer, ids, weights), on a CPU as on a GPU, where it launches into
the current stream and so ends up in a CUDA graph. With nobody bound, as while a model warms up, nothing happens: a graph holds
numbers and no Python object. `token` is declared as changed, though it never is, so that no compiler drops the call: `token_on`,
or a tensor that the graph reads afterwards. A graph break is not needed, gradients pass by, and nothing is raised in the model.
"""
from __future__ import annotations

import functools
import itertools
import logging
from typing import Any, Callable, Optional

import torch

_log = logging.getLogger("moetrace")

# (layer, ids, weights): as the model has them, any shape and strides; not needed after the call on a CPU, and on a GPU no
# longer than for any other kernel of the current stream.
Recorder = Callable[[int, torch.Tensor, Optional[torch.Tensor]], None]

_recorders: dict[int, Recorder] = {}
_keys = itertools.count()


def new_key() -> int:
    """A number for `bind`, never given out twice in a process."""
    return next(_keys)


def bind(key: int, recorder: Optional[Recorder]) -> None:
    """From now on, calls with `key` go to `recorder` (such as `Producer.record`); None: to nobody. One that raises is said to
    the logger "moetrace", in one line, and no longer called."""
    if recorder is None:
        _recorders.pop(key, None)
    else:
        _recorders[key] = recorder


@functools.cache
def token_on(device: torch.device) -> torch.Tensor:
    """What `record` may be said to change: an input of every graph that has the call. To be asked for outside of the graph."""
    with torch.inference_mode(False):
        token = torch.zeros(1, device=device)
    torch._dynamo.mark_static_address(token)  # else a changed input keeps a compiler from capturing a CUDA graph
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
        _log.warning("moetrace: recording has stopped: layer %d: %s", layer, " ".join(f"{error!r}".split()))


def _fake(_token: Any, _ids: Any, _weights: Any, _layer: int, _key: int) -> None:
    """While a graph is traced: no result, no rows."""


_LIBRARY = torch.library.Library("moetrace_py", "DEF")  # the operator lives as long as this object
_LIBRARY.define("record(Tensor(a!) token, Tensor ids, Tensor? weights, int layer, int key) -> ()")
for _backend in ("CPU", "CUDA"):
    _LIBRARY.impl("record", _record, _backend)
_LIBRARY.impl("record", torch.library.fallthrough_kernel, "Autograd")  # no value changes: there is nothing to differentiate
torch.library.register_fake("moetrace_py::record", _fake, lib=_LIBRARY)
record = torch.ops.moetrace_py.record.default


def routed(token: torch.Tensor, layer: int, key: int, ids: Optional[torch.Tensor], weights: Optional[torch.Tensor]) -> None:
    """`record` for what a layer's hook has seen, called in the graph. Without ids it gets what no recorder can take, so that the
    recorder says so."""
    record(token, token.clone() if ids is None else ids, weights, layer, key)
