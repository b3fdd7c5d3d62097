"""What the adapters share: the start of a plugin, the model's configuration, log lines, spans."""

from __future__ import annotations

import logging
import os
from typing import Any, Callable, Optional, Sequence

from ..errors import TracingError
from .producer import enabled

_log = logging.getLogger("moetrace")

# Names that models give to their number of routed experts and to their top-k.
_NUM_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_TOP_K = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_top_k", "moe_k", "top_k")
# Transformers 4 keeps the top-k of sampling, 50 by default, in a configuration's `top_k`. The hook
# records a top-k of at most 32 (MOETRACE_MAX_TOP_K), so that a larger value has another meaning.
_MOST_TOP_K = 32


def asked_for(engine: str) -> bool:
    """Whether MOETRACE turns the plugin of `engine` on, "vllm" or "sglang".

    Where MOETRACE is set, the logger `engine` handles the lines of the logger "moetrace" from now
    on. Without the library the answer is False, in one log line, and the engine starts.
    """
    if not os.environ.get("MOETRACE"):
        return False
    if not _log.handlers:  # else a user has configured the logger
        _log.addHandler(_Follow(logging.getLogger(engine)))
        _log.propagate = False
        _log.setLevel(_log.level or logging.DEBUG)
    try:
        return enabled()
    except TracingError as error:
        _log.warning("moetrace: this process is not traced: %s", error)
        return False


class _Follow(logging.Handler):
    """Passes records to an engine's logger, which applies its level and format, even if the engine
    configures it later. The root's handlers may drop INFO, and would print the logger's name in
    front of lines that already begin with it."""

    def __init__(self, engine: logging.Logger):
        super().__init__()
        self._engine = engine

    def emit(self, record: logging.LogRecord) -> None:
        if self._engine.isEnabledFor(record.levelno):
            self._engine.handle(record)


class SayOnce:
    """Logs each line once, however often a pass gives cause for it."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, line: str, level: int = logging.WARNING) -> None:
        if line not in self._said:
            self._said.add(line)
            _log.log(level, "moetrace: %s", line)


def in_one_line(error: BaseException) -> str:
    """The text of `error` in one line. An error that is not moetrace's own begins with its type."""
    return " ".join((str(error) if isinstance(error, TracingError) else repr(error)).split())


def num_experts_of(config: Any, what_to_try: str) -> int:
    """The number of routed experts of a layer, the largest where layers differ.

    `config`: a model's text configuration, as Hugging Face's classes are. Raises TracingError, with
    `what_to_try` at its end, if none of the usual names has it.
    """
    return _largest(config, "the number of experts", _NUM_EXPERTS, what_to_try)


def top_k_of(config: Any, what_to_try: str) -> int:
    """As `num_experts_of`, for the number of experts that a token is routed to, 1 to 32."""
    return _largest(config, "top-k", _TOP_K, what_to_try, _MOST_TOP_K)


def _one_a_layer(
    config: Any, names: Sequence[str], num_layers: int, most: Optional[int] = None
) -> list[Optional[int]]:
    """By layer, what a configuration gives under the first of `names`: one number for all layers,
    or a list with one for each. None: not known."""
    for name in names:
        value = getattr(config, name, None)
        if isinstance(value, (list, tuple)):
            if len(value) == num_layers and any(map(positive, value)):
                return [positive(number) for number in value]
        elif positive(value) is not None and (most is None or value <= most):
            return [value] * num_layers
    return [None] * num_layers


def experts_by_layer(config: Any, num_layers: int) -> list[Optional[int]]:
    """The number of routed experts by layer; None where a configuration does not say it."""
    return _one_a_layer(config, _NUM_EXPERTS, num_layers)


def top_k_by_layer(config: Any, num_layers: int) -> list[Optional[int]]:
    """The same for top-k."""
    return _one_a_layer(config, _TOP_K, num_layers, _MOST_TOP_K)


def most_of(values: Sequence[Optional[int]], of_config: Callable[[], int]) -> int:
    """The largest of `values`, one a layer; where one is not known, at least `of_config()`."""
    known = [value for value in values if value is not None]
    return max(known if len(known) == len(values) else [*known, of_config()])


def positive(value: Any) -> Optional[int]:
    """`value` if it is an int of 1 or more, else None: what an attribute of an engine's object
    says, if anything."""
    return value if type(value) is int and value > 0 else None


def truth(owner: Any, name: str) -> Optional[bool]:
    """Whether the attribute `name` of `owner` is set to something true; None: it has no such
    attribute."""
    return bool(getattr(owner, name)) if hasattr(owner, name) else None


def given_engine_id(engine_id: Any) -> Optional[str]:
    """`Producer`'s engine_id for what an engine calls itself: None, and so the value of
    MOETRACE_ENGINE_ID, if that is set."""
    if os.environ.get("MOETRACE_ENGINE_ID"):
        return None
    return engine_id if isinstance(engine_id, str) and engine_id else None


def _largest(
    config: Any, what: str, names: Sequence[str], what_to_try: str, most: Optional[int] = None
) -> int:
    for name in names:
        value = getattr(config, name, None)
        of_layers = value if isinstance(value, (list, tuple)) else [value]
        numbers = [number for number in of_layers if type(number) is int and number > 0]
        if numbers and (most is None or max(numbers) <= most):
            return max(numbers)
    model = getattr(config, "model_type", type(config).__name__)
    raise TracingError(
        f"{what} of {model} is unknown: its configuration has none of {', '.join(names)}; "
        f"{what_to_try}"
    )


def cuda_device_of(device: Any) -> Optional[int]:
    """`Producer`'s cuda_device for a torch.device: the GPU's index; None: host memory."""
    return device.index if device.type == "cuda" else None


def installed_version(distribution: str) -> Optional[str]:
    """The version of an installed distribution, which is not imported; None: not installed."""
    import importlib.metadata  # here, because it takes longer to import than the whole package

    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def call_at_exit(function: Callable[[], None]) -> None:
    """Calls `function` when this process ends normally. The child processes of multiprocessing run
    these finalizers, and no handlers of atexit."""
    import multiprocessing.util

    multiprocessing.util.Finalize(None, function, exitpriority=100)


def pack_spans(
    requests: Sequence[Any], firsts: Sequence[int], counts: Sequence[int]
) -> tuple[int, list[tuple]]:
    """The arguments of `Producer.step` for requests whose rows follow one another.

    Request n has `counts[n]` rows from position `firsts[n]` on; one without rows gets no span.
    """
    spans, row = [], 0
    for request, first, count in zip(requests, firsts, counts):
        if count:
            spans.append((request, first, row, count))
        row += count
    return row, spans


def routed_columns(ids: Any, weights: Any, top_k: int) -> tuple[Any, Any]:
    """The first `top_k` columns of both tensors [rows, k >= top_k], contiguous; weights may be
    None. Engines append the columns of shared experts that one kernel computes with the routed
    ones."""
    if ids.shape[-1] > top_k:
        ids = ids[:, :top_k]
        weights = None if weights is None else weights[:, :top_k]
    return ids.contiguous(), None if weights is None else weights.contiguous()
