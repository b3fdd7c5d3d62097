"""Patching a module when an engine imports it, without importing it."""

from __future__ import annotations

import logging
import sys
from typing import Any, Callable, Optional

from ._adapter import in_one_line

_log = logging.getLogger("moetrace")

Callback = Callable[[Any], None]
_waiting: dict[str, list[Callback]] = {}


def when_imported(name: str, callback: Callback) -> None:
    """Calls `callback(module)` once the module `name` has been imported; now, if it already is.

    If the callback raises, the import succeeds and the logger "moetrace" gets one line.
    """
    module = sys.modules.get(name)
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        _call(name, module, callback)
        return
    _waiting.setdefault(name, []).append(callback)
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


class _Finder:
    """First on sys.meta_path: asks the other finders for a module, and extends its loader to run
    the callbacks after the module."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Optional[Any]:
        if name not in _waiting:
            return None
        others = (
            finder.find_spec(name, path, target)
            for finder in sys.meta_path
            if finder is not self and hasattr(finder, "find_spec")
        )
        spec = next((spec for spec in others if spec is not None), None)
        loader = getattr(spec, "loader", None)
        execute = getattr(loader, "exec_module", None)
        if loader is None or execute is None:
            return spec

        def execute_and_call(module: Any) -> None:
            execute(module)
            for callback in _waiting.pop(name, ()):
                _call(name, module, callback)

        loader.exec_module = execute_and_call
        return spec


_FINDER: Any = _Finder()


def _call(name: str, module: Any, callback: Callback) -> None:
    try:
        callback(module)
    except Exception as error:  # the engine must start
        _log.warning("moetrace: %s is not traced: %s", name, in_one_line(error))
