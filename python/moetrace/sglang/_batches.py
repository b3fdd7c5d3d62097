"""Which rows of SGLang's batches are whose tokens, and where that can't be told."""

from __future__ import annotations

from typing import Any, Optional

from ..recording._adapter import positive


def layout_of(batch: Any) -> tuple[list[int], list[int]]:
    """The first position and the number of rows of each request of a ForwardBatch, in row order.

    Both lists are empty if the batch has no requests. Raises ValueError, with one line, if the
    batch does not say.
    """
    requests = getattr(batch, "moetrace_requests", ())
    if not requests:
        return [], []
    mode = batch.forward_mode.name
    if mode == "DECODE" and batch.seq_lens_cpu is not None:
        firsts = [length - 1 for length in batch.seq_lens_cpu.tolist()]
        counts = [1] * len(firsts)
    elif mode in ("EXTEND", "MIXED") and batch.extend_seq_lens_cpu is not None:
        firsts, counts = list(batch.extend_prefix_lens_cpu), list(batch.extend_seq_lens_cpu)
    else:
        raise ValueError(f"its mode {mode} does not say which rows are whose tokens")
    rows = batch.positions.shape[-1]
    if len(counts) != len(requests) or sum(counts) != rows:
        raise ValueError(
            f"it has {rows} rows, but its {len(requests)} requests have {sum(counts)} together"
        )
    return firsts, counts


def largest_step(args: Any) -> Optional[int]:
    """The most rows of a pass, by SGLang's ServerArgs; None: they do not say.

    A chunk bounds a prefill with all its requests, decodes that are mixed in included. Without
    chunks it is max_prefill_tokens, which one long prompt alone may exceed. A decode has a row for
    each running request.
    """
    prefill = positive(getattr(args, "chunked_prefill_size", None)) or positive(
        getattr(args, "max_prefill_tokens", None)
    )
    decode = positive(getattr(args, "max_running_requests", None))
    return max(prefill or 0, decode or 0) or None


def refusal(runner: Any, parallel: Any) -> Optional[str]:
    """Why the rows of this engine would lose their place; None: they keep it."""
    args = runner.server_args
    for holds, why in (
        (parallel.attn_dp_size > 1, "attention data parallelism gathers the rows of several ranks"),
        (parallel.pp_size > 1, "with pipeline parallelism each rank has some of the layers"),
        (parallel.attn_cp_size > 1, "context parallelism splits the rows"),
        (
            getattr(args, "moe_a2a_backend", "none") not in (None, "none"),
            "this all-to-all backend scatters the rows",
        ),
        (
            getattr(args, "enable_two_batch_overlap", False),
            "two overlapping batches split the rows",
        ),
        (runner.attn_tp_sequence_sharded(1), "sequence parallelism splits the rows"),
        (
            not runner.spec_algorithm.is_none(),
            "speculative decoding has rows of rejected tokens",
        ),
        (
            runner.device not in ("cuda", "cpu"),
            f"the device is {runner.device}; expected cuda or cpu",
        ),
    ):
        if holds:
            return why
    return None
