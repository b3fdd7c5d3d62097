"""What moetrace raises. Each is one line: "what: why; what to try"."""


class TracingError(RuntimeError):
    """Nothing can be traced."""


class ReadError(RuntimeError):
    """A trace, or a message of a live one, can't be read, or does not have what was asked for."""
