"""The requests of a transformers model: one for each sequence of a batch."""

from __future__ import annotations

from typing import Any, Iterator, Optional

from ..recording._adapter import pack_spans
from ..recording.producer import Producer, Request
from ._passes import Pass


class Sequences:
    """Sequences that go through the model together, pass after pass."""

    def __init__(self, producer: Producer, names: Iterator[str], first: Pass):
        self.requests: list[Request] = [
            producer.request(next(names), prompt_tokens=before + count, cached_tokens=before)
            for before, count in zip(first.firsts, first.counts)
        ]
        self.finished = [False] * len(self.requests)

    def spans(self, layout: Pass) -> tuple[int, list[tuple]]:
        """The arguments of `Producer.step`."""
        return pack_spans(self.requests, layout.firsts, layout.counts)

    def mark_finished(self, last_tokens: list[int], end_tokens: frozenset) -> None:
        """A sequence that is fed its end token has finished. What generate() feeds it from then on,
        while others continue, is padding."""
        for at, token in enumerate(last_tokens):
            self.finished[at] = self.finished[at] or token in end_tokens

    def end(
        self, generated: Optional[list[list[int]]], end_tokens: frozenset, otherwise: str
    ) -> None:
        """Ends all requests. `generated`: the tokens of each sequence after its prompt; None:
        unknown. `otherwise`: the status of a sequence without an end token."""
        for at, request in enumerate(self.requests):
            tokens = generated[at] if generated is not None else []
            stop = next((n + 1 for n, token in enumerate(tokens) if token in end_tokens), None)
            if generated is None:
                request.end(None, otherwise)
            elif stop is not None:
                request.end(stop, "stop")
            else:
                request.end(len(tokens), otherwise)


def generation_setting(model: Any, kwargs: dict, name: str) -> Any:
    """What `model.generate(**kwargs)` uses for `name`: its argument, else the given generation
    configuration's, else the model's."""
    sources = (kwargs.get("generation_config"), getattr(model, "generation_config", None))
    values = [kwargs.get(name), *(getattr(source, name, None) for source in sources)]
    return next((value for value in values if value is not None), None)


def end_tokens_of(model: Any, kwargs: dict) -> frozenset:
    """The token ids that end a sequence in `model.generate(**kwargs)`."""
    ends = generation_setting(model, kwargs, "eos_token_id")
    ends = ends.tolist() if hasattr(ends, "tolist") else ends
    if ends is None:
        return frozenset()
    return frozenset(ends if isinstance(ends, (list, tuple)) else [ends])
