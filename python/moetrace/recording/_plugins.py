"""What the plugins have in common."""
from __future__ import annotations

import logging
import os

from ..errors import TracingError
from .producer import enabled

_log = logging.getLogger("moetrace")


def asked_for(engine: str) -> bool:
    """Does MOETRACE turn the plugin of `engine` on? Without the library it is one line, and the engine starts.

    Where MOETRACE is set, lines of the logger "moetrace" go from now on where those of the logger `engine` go.
    """
    if not os.environ.get("MOETRACE"):
        return False
    if not _log.handlers:  # else somebody has said where they go
        _log.addHandler(_Follow(logging.getLogger(engine)))
        _log.propagate = False
        _log.setLevel(_log.level or logging.DEBUG)
    try:
        return enabled()
    except TracingError as error:
        _log.warning("moetrace: this process is not traced: %s", error)
        return False


class _Follow(logging.Handler):
    """Hands lines on as if the logger of an engine had them, whose level and format they get, whenever it is configured. The root's
    handlers, which a logger of another name has, may leave out what is only information, and put the logger's name in front of
    lines that begin with it."""

    def __init__(self, engine: logging.Logger):
        super().__init__()
        self._engine = engine

    def emit(self, record: logging.LogRecord) -> None:
        if self._engine.isEnabledFor(record.levelno):
            self._engine.handle(record)
