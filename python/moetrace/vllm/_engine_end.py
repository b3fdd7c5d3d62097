"""vLLM's engine processes are given the time to end.

Told to stop, a server with vLLM's default `--shutdown-timeout 0` asks its engine to end and kills it in the same breath: whether
the engine gets to close its trace is then a race.
"""
from __future__ import annotations

import functools
import os
from typing import Any, Optional

MODULE = "vllm.v1.engine.utils"
_GRACE_S = 10.0  # at the most; an engine that ends is not waited for any longer


def patch(module: Any) -> None:
    manager = module.CoreEngineProcManager
    manager.shutdown = _shutdown(manager.shutdown)


def _shutdown(original: Any) -> Any:
    @functools.wraps(original)
    def shutdown(self: Any, timeout: Optional[float] = None) -> None:
        # 0 may also be what is left of a time that requests were given; then it has been waited for.
        if timeout == 0 and not getattr(self, "_request_shutdown_timeout", 0):
            timeout = _grace_s()
        original(self, timeout=timeout)

    return shutdown


def _grace_s() -> float:
    try:
        return float(os.environ["VLLM_WORKER_SHUTDOWN_TIMEOUT_SECONDS"])  # vLLM's; from 0.33 on it means this time
    except (KeyError, ValueError):
        return _GRACE_S
