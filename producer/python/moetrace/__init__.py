"""moetrace from Python: record which experts a Mixture-of-Experts model picks, and read what was recorded.

Recording (nothing but the standard library is needed): `Producer` for one's own engine, `trace` for a model of Hugging Face
transformers, `enabled`. Reading: `open`, `Trace` and `subscribe`, loaded when first used, because they need numpy and pyzmq.
"""
import importlib

from .errors import TracingError
from .producer import Producer, Request, Span, Totals, enabled
from .transformers import trace

__version__ = "0.1.0"
__all__ = ["Producer", "Request", "Span", "Totals", "Trace", "TraceError", "TracingError", "enabled", "open", "subscribe",
           "trace"]

_LAZY = {"open": ".trace", "Trace": ".trace", "TraceError": ".trace", "subscribe": ".stream"}


def __getattr__(name):
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name], __name__), name)
