"""Which rows of a transformers model's forward are real, and which positions they have."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple, Optional, Union


class Pass(NamedTuple):
    """One forward of a batch of sequences: sequence b has `counts[b]` real rows, from position
    `firsts[b]` on."""

    firsts: list[int]
    counts: list[int]
    padded_rows: int  # batch x length, as the routers see them
    keep: Optional[Any]  # int64 [sum(counts)]: the indices of the real rows; None: all are real


def layout(model: Any, args: tuple, kwargs: dict, finished: list[bool]) -> Pass:
    """The layout of `model(*args, **kwargs)`. Raises ValueError, with one line, if the arguments do
    not say.

    A two-dimensional attention_mask marks padding; sequences marked in `finished` (may be empty)
    have no real rows. A position is the token's index among the real tokens of its sequence.
    Without a mask every row is real, from position_ids, the length of the cache or cache_position
    on. On a GPU this waits for the mask.
    """
    given = inspect.signature(model.forward).bind_partial(*args, **kwargs).arguments
    given.update(given.pop("kwargs", {}))
    inputs = given.get("input_ids")
    inputs = given.get("inputs_embeds") if inputs is None else inputs
    if inputs is None:
        raise ValueError("it has neither input_ids nor inputs_embeds")
    batch, length = inputs.shape[:2]
    mask = given.get("attention_mask")
    if mask is not None:
        if getattr(mask, "ndim", 0) != 2 or mask.shape[1] < length:
            raise ValueError(
                "its attention_mask does not say which rows are padding; "
                "it must be [batch, tokens so far]"
            )
        return _masked(mask, batch, length, _past(given), finished)
    firsts = _first_positions(given, batch)
    if any(finished):
        everything = inputs.new_ones((batch, length), dtype=int)
        return _masked(everything, batch, length, firsts, finished)
    return Pass(firsts, [length] * batch, batch * length, None)


def _masked(
    mask: Any, batch: int, length: int, past: Union[int, list[int]], finished: list[bool]
) -> Pass:
    mask = mask.bool()
    before = mask.shape[1] - length
    real = mask[:, before:]
    if before:
        firsts = mask[:, :before].sum(1).tolist()
    else:
        firsts = past if isinstance(past, list) else [past] * batch
    if any(finished):
        real = real & ~real.new_tensor(finished)[:, None]
    counts = real.sum(1).tolist()
    all_real = sum(counts) == batch * length
    keep = None if all_real else real.reshape(-1).nonzero().squeeze(1)
    return Pass(firsts, counts, batch * length, keep)


def _first_positions(given: dict, batch: int) -> list[int]:
    positions = given.get("position_ids")
    if positions is not None and getattr(positions, "ndim", 0) == 2:
        return positions[:, 0].expand(batch).tolist()
    return [_past(given)] * batch


def _past(given: dict) -> int:
    """The number of tokens in the cache."""
    for name in ("past_key_values", "cache"):
        cache = given.get(name)
        if cache is not None and hasattr(cache, "get_seq_length"):
            return int(cache.get_seq_length())
    positions = given.get("cache_position")
    return 0 if positions is None else int(positions[0])
