"""How many rows a step of vLLM can have."""

from __future__ import annotations

from typing import Any, Optional

from ..recording._adapter import positive


def largest_step(config: Any) -> Optional[int]:
    """The most rows of a step of one ring, by a VllmConfig; None: it does not say.

    The scheduler counts draft tokens, and each data-parallel rank has a scheduler and a ring of its
    own. Rows that pad a graph are not recorded.
    """
    return positive(getattr(config.scheduler_config, "max_num_batched_tokens", None))
