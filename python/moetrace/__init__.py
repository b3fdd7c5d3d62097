"""moetrace from Python: record which experts a Mixture-of-Experts model picks, and read the traces.

Recording: `Producer` for an engine of your own, `trace` for a model of Hugging Face transformers,
`enabled`. It needs only the standard library. Reading: `open` for a trace file, with numpy;
`stream` for a live trace, with numpy and pyzmq. `python -m moetrace` says what is installed.
"""

from ._version import __version__
from .errors import ReadError, TracingError
from .reading._lines import (
    BaseLine,
    ControlLine,
    EndLine,
    LossLine,
    RequestEndLine,
    RequestLine,
    StepLine,
    Steps,
    TornLine,
)
from .reading._rows import Batch, RequestInfo
from .reading.streaming import LiveTrace, Stream, default_endpoint, stream
from .reading.trace import Routing, Trace, open
from .recording.producer import Cost, LayerInfo, Producer, Request, Span, Totals, enabled
from .transformers import trace

__all__ = [
    "BaseLine",
    "Batch",
    "ControlLine",
    "Cost",
    "EndLine",
    "LayerInfo",
    "LiveTrace",
    "LossLine",
    "Producer",
    "ReadError",
    "Request",
    "RequestEndLine",
    "RequestInfo",
    "RequestLine",
    "Routing",
    "Span",
    "StepLine",
    "Steps",
    "Stream",
    "TornLine",
    "Totals",
    "Trace",
    "TracingError",
    "__version__",
    "default_endpoint",
    "enabled",
    "open",
    "stream",
    "trace",
]
