"""moetrace from Python: record which experts a Mixture-of-Experts model picks.

`Producer` for one's own engine, `trace` for a model of Hugging Face transformers, `enabled`; nothing but the standard library
is needed.
"""
from .errors import TracingError
from .producer import Cost, Producer, Request, Span, Totals, enabled
from .transformers import trace

__version__ = "0.1.0"
__all__ = ["Cost", "Producer", "Request", "Span", "Totals", "TracingError", "enabled", "trace"]
