"""What vLLM's routers say of themselves, for `meta.layers` of the trace.

Attributes move from release to release: each is probed, and unknown if it is not there.
"""

from __future__ import annotations

from typing import Any, Optional

from ..recording import _adapter
from ..recording.producer import LayerInfo


def describe(module: Any, router: Any, redundant_experts: bool) -> LayerInfo:
    """The MoE layer `module`, whose router is `router`. redundant_experts: the load balancer keeps
    copies of experts, which some numbers of vLLM's include."""
    groups, topk_groups = _groups(router)
    return LayerInfo(
        experts=_experts(module, router, redundant_experts),
        zero_experts=_zero_experts(router),
        top_k=_adapter.positive(getattr(router, "top_k", None)),
        score=_score(router),
        renormalized=_adapter.truth(router, "renormalize"),
        scaling=_scaling(router),
        biased=_biased(router),
        groups=groups,
        topk_groups=topk_groups,
        table=_looks_up(router),
    )


def _experts(module: Any, router: Any, redundant_experts: bool) -> Optional[int]:
    for owner in (router, getattr(module, "moe_config", None), module):
        for name in ("num_logical_experts", "logical_num_experts"):
            logical = _adapter.positive(getattr(owner, name, None))
            if logical is not None:
                return logical
    if redundant_experts or getattr(router, "zero_expert_type", None):
        return None
    return _adapter.positive(getattr(router, "global_num_experts", None))


def _zero_experts(router: Any) -> Optional[int]:
    """vLLM's routers do not say how many they have."""
    return None if getattr(router, "zero_expert_type", None) else 0


def _score(router: Any) -> Optional[str]:
    """A custom routing function has a score of its own, whatever scoring_func says."""
    if getattr(router, "custom_routing_function", None) is not None or _looks_up(router):
        return None
    score = getattr(router, "scoring_func", None)
    return score if isinstance(score, str) else None


def _scaling(router: Any) -> Optional[float]:
    if not hasattr(router, "routed_scaling_factor"):
        return 1.0 if _is_plain(router) else None
    factor = router.routed_scaling_factor
    return 1.0 if factor is None else float(factor)


def _biased(router: Any) -> Optional[bool]:
    if hasattr(router, "e_score_correction_bias"):
        return router.e_score_correction_bias is not None
    return False if _is_plain(router) else None


def _groups(router: Any) -> tuple[Optional[int], Optional[int]]:
    groups = _adapter.positive(getattr(router, "num_expert_group", None))
    topk_groups = _adapter.positive(getattr(router, "topk_group", None))
    if groups is not None and topk_groups is not None and topk_groups <= groups:
        return groups, topk_groups
    return (1, 1) if _is_plain(router) else (None, None)


def _looks_up(router: Any) -> Optional[bool]:
    for name in ("hash_indices_table", "_hash_indices_table"):
        if hasattr(router, name):
            return getattr(router, name) is not None
    return False if _is_plain(router) else None


def _is_plain(router: Any) -> bool:
    """Top-k of the scores of all experts, and nothing else: such a router has no attributes for
    what it does not do."""
    return type(router).__name__ == "FusedTopKRouter"
