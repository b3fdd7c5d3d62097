"""The errors of moetrace. The text of each is one line: "what: why; what to try"."""


class TracingError(RuntimeError):
    """A trace can't be started."""


class ReadError(RuntimeError):
    """A trace, or a message of a live one, can't be read or lacks what was asked for."""
