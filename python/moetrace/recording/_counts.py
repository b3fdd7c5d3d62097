"""What a producer counts: rows and time."""

from __future__ import annotations

from typing import NamedTuple


class Totals(NamedTuple):
    """The counters of a trace.

    attempted: rows announced times layers selected. recorded: in the ring. dropped: the ring was
    full.
    """

    steps: int = 0
    attempted: int = 0
    recorded: int = 0
    dropped: int = 0


class Cost(NamedTuple):
    """Nanoseconds of the engine's threads: in announcements, and in calls of the hook (for host
    memory an estimate)."""

    announce_ns: int = 0
    hook_ns: int = 0
