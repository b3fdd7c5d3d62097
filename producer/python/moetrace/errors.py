"""The error of the producing half."""


class TracingError(RuntimeError):
    """Nothing can be traced. One line: "what: why; what to try"."""
