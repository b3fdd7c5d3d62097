"""Doing something to a module when somebody else imports it, without importing it."""
from __future__ import annotations

import logging
import sys
from typing import Any, Callable, Optional

_log = logging.getLogger("moetrace")

Callback = Callable[[Any], None]
_waiting: dict[str, list[Callback]] = {}


def when_imported(name: str, callback: Callback) -> None:
    """Calls `callback(module)` as soon as the module `name` has been imported: now, if it is already.

    What the callback raises is said to the logger "moetrace", in one line, and the import succeeds.
    """
    module = sys.modules.get(name)
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        _call(name, module, callback)
        return
    _waiting.setdefault(name, []).append(callback)
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


class _Finder:
    """First on sys.meta_path: lets the others find a module, and has its loader tell when it is there."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Optional[Any]:
        if name not in _waiting:
            return None
        others = (finder.find_spec(name, path, target) for finder in sys.meta_path
                  if finder is not self and hasattr(finder, "find_spec"))
        spec = next((spec for spec in others if spec is not None), None)
        execute = getattr(spec and spec.loader, "exec_module", None)
        if execute is not None:
            def execute_and_tell(module: Any) -> None:
                execute(module)
                for callback in _waiting.pop(name, ()):
                    _call(name, module, callback)

            spec.loader.exec_module = execute_and_tell
        return spec


_FINDER = _Finder()


def _call(name: str, module: Any, callback: Callback) -> None:
    try:
        callback(module)
    except Exception as error:  # the engine must start
        _log.warning("moetrace: %s is not traced: %s", name, " ".join(f"{error!r}".split()))
