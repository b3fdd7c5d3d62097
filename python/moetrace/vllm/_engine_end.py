"""Gives vLLM's engine processes the time to close their traces.

With vLLM's default `--shutdown-timeout 0` a server that is stopped asks its engine to end and kills
it at once, so that the end of the trace is a race.
"""

from __future__ import annotations

import functools
import os
from typing import Any, Optional

_GRACE_S = 10.0  # at most; the wait is over when the engine has ended


def patch(module: Any) -> None:
    manager = module.CoreEngineProcManager
    manager.shutdown = _shutdown(manager.shutdown)


def _shutdown(original: Any) -> Any:
    @functools.wraps(original)
    def shutdown(self: Any, timeout: Optional[float] = None) -> None:
        # 0 may also be the rest of a time that requests were given: that wait is over.
        if timeout == 0 and not getattr(self, "_request_shutdown_timeout", 0):
            timeout = _grace_s()
        original(self, timeout=timeout)

    return shutdown


def _grace_s() -> float:
    try:
        # vLLM's own variable; from 0.33 on it sets this time.
        return float(os.environ["VLLM_WORKER_SHUTDOWN_TIMEOUT_SECONDS"])
    except (KeyError, ValueError):
        return _GRACE_S
