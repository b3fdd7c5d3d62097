"""The real rows of a pass, also for layers that are captured in a CUDA graph."""

from __future__ import annotations

from typing import Any, Optional

from ._passes import Pass


class RealRows:
    """Selects the real rows of a layer's ids and weights.

    A captured layer reads an index of fixed length and address: the pass's real rows first, then
    any rows. The index is written before each pass and each replay, in stream order, and the hook
    ignores rows past the announced ones. A graph of n rows, padding included, is therefore exact
    for every padding. One index is kept for each n that was captured.
    """

    def __init__(self) -> None:
        self._captured: dict[int, Any] = {}  # n: int64 [n]
        self._current: Any = None  # the index of the current pass; None on a CPU
        self._keep: Any = None

    def check_not_captured(self, cuda_device: Optional[int]) -> None:
        """Raises ValueError while a whole pass is captured: its replays could not be announced."""
        if cuda_device is not None and _capturing():
            raise ValueError(
                "it is captured as a whole, and its replays can't be announced; "
                "compile the model instead"
            )

    def announce(self, layout: Pass, cuda_device: Optional[int]) -> None:
        """Prepares the next pass. On a GPU this launches up to two small kernels in the current
        stream."""
        self._keep = layout.keep
        if cuda_device is None:
            return
        import torch

        rows = layout.padded_rows
        self._current = self._captured.get(rows)
        if self._current is None:
            self._current = torch.arange(rows, device=f"cuda:{cuda_device}")
        elif layout.keep is None:
            torch.arange(rows, out=self._current)
        if layout.keep is not None:
            self._current[: len(layout.keep)] = layout.keep

    def index(self) -> Optional[Any]:
        """int64: which rows of a layer's ids and weights to record; None: all as they are."""
        if self._current is None or not _capturing():
            return self._keep
        self._captured[len(self._current)] = self._current
        return self._current


def _capturing() -> bool:
    import torch

    return torch.cuda.is_current_stream_capturing()
