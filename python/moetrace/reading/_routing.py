"""What the tokens of one request were routed to, as numpy arrays."""

from __future__ import annotations

from typing import Any

from . import _rows
from ._reader_library import numpy
from ._rows import Batch, RequestInfo


class Routing:
    """What one request's tokens were routed to. Axis 0 is the position in the request (token_idx),
    axis 1 the model's layer.

    ids: int32 [tokens, num_layers, top_k], -1: no expert, no row, or past the layer's own top-k.
    weights: float32, the same shape, NaN: not known, or no row. Where a position comes twice in a
    layer (after a preemption), the last one counts. recorded: bool [tokens, num_layers], what has a
    row. positions, layers: int64, those that have any. request: its `RequestInfo`. Rows whose
    position is not known are not in it. left_out: how many rows are not in it, for that reason or
    because a later one has their place.
    """

    def __init__(self, request: RequestInfo, tokens: int, num_layers: int, top_k: int):
        self.request = request
        self.ids = numpy().full((tokens, num_layers, top_k), -1, "int32")
        self.weights = numpy().full((tokens, num_layers, top_k), numpy().nan, "float32")
        self.recorded = numpy().zeros((tokens, num_layers), bool)
        self._rows = 0

    def put(self, batch: Batch) -> None:
        self._rows += len(batch)
        known = batch.token_idx >= 0
        where = batch.token_idx[known], batch.layer[known]
        self.ids[where], self.weights[where] = (
            batch.topk_ids[known],
            batch.topk_weights[known],
        )  # the last of equal places stays
        self.recorded[where] = True

    def __repr__(self) -> str:
        tokens, layers, top_k = self.ids.shape
        parts = [
            f"{self.recorded.sum()} rows of top-{top_k}",
            _rows.extent("positions", self.positions),
            _rows.extent("layers", self.layers),
            f"{self.left_out} left out" if self.left_out else "",
        ]
        said = ", ".join(filter(None, parts))
        return (
            f"<moetrace.Routing of {self.request.req_id!r}, request {self.request.number}: {said}; "
            f"[{tokens}, {layers}, {top_k}]>"
        )

    @property
    def left_out(self) -> int:
        return self._rows - int(self.recorded.sum())

    @property
    def positions(self) -> Any:
        return numpy().flatnonzero(self.recorded.any(1))

    @property
    def layers(self) -> Any:
        return numpy().flatnonzero(self.recorded.any(0))
