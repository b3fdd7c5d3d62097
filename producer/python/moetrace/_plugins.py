"""What the plugins have in common."""
from __future__ import annotations

import logging

from .errors import TracingError
from .producer import enabled

_log = logging.getLogger("moetrace")


def asked_for() -> bool:
    """Does MOETRACE turn a plugin on? Without the library it is one line of the logger "moetrace", and the engine starts."""
    try:
        return enabled()
    except TracingError as error:
        _log.warning("moetrace: this process is not traced: %s", error)
        return False
