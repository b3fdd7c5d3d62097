"""moetrace from Python: record which experts a Mixture-of-Experts model picks, and read what was recorded.

Recording: `Producer` for one's own engine, `trace` for a model of Hugging Face transformers, `enabled`; nothing but the standard
library is needed. Reading: `open` for a trace file, with numpy; `stream` for a live one, with pyzmq, too.
"""
from .reading._lines import (BaseLine, ControlLine, EndLine, LossLine, RequestEndLine, RequestLine, StepLine, Steps,
                             TornLine)
from .reading._rows import Batch, RequestInfo
from .errors import ReadError, TracingError
from .recording.producer import Cost, Producer, Request, Span, Totals, enabled
from .reading.trace import Routing, Trace, open
from .reading.streaming import LiveTrace, Stream, default_endpoint, stream
from .transformers import trace

__version__ = "0.1.0"
__all__ = ["BaseLine", "Batch", "ControlLine", "Cost", "EndLine", "LiveTrace", "LossLine", "Producer", "ReadError", "Request",
           "RequestEndLine", "RequestInfo", "RequestLine", "Routing", "Span", "StepLine", "Steps", "Stream", "TornLine", "Totals",
           "Trace", "TracingError", "default_endpoint", "enabled", "open", "stream", "trace"]
