"""The lines of a trace other than its rows: what was announced, selected, lost and torn.
trace/FORMAT.md describes them."""

from __future__ import annotations

import collections
import ctypes
from typing import Any, Iterable, Iterator, NamedTuple, Optional, Union

from ..recording._counts import Cost
from . import _reader_library
from ._reader_library import numpy

CAUSES = {
    _reader_library.RING_FULL: "ring_full",
    _reader_library.EVENT_RING_FULL: "event_ring_full",
}
STATUSES = {
    _reader_library.CLOSED: "closed",
    _reader_library.PRODUCER_DIED: "producer died",
    _reader_library.CONTINUED: "continued",
    _reader_library.BAD_SEGMENT: "bad segment",
}
REASONS = {_reader_library.MAX_TOTAL_SIZE: "max-total-size"}
KEPT_LINES = 4096  # of each rare type, in a live trace
KEPT_STEPS = 16384  # in a live trace; some 5 MB


class StepLine(NamedTuple):
    """An announced forward pass, before its rows. Totals are running totals of the trace, in rows
    of one layer each, with this step in `attempted_total`. None: the file does not say. `line`: its
    number in the file from 1; 0 in a live trace."""

    line: int
    step: int
    rows: int  # of the pass
    layers: int  # recorded ones; 0: the step only counts
    time_ns: Optional[int]  # since meta's created_at
    seq: int  # of the next row
    event: int  # first event slot of the announcement
    attempted_total: Optional[int]
    delivered_total: Optional[int]
    filtered_total: Optional[int]
    dropped_total: int
    torn_total: Optional[int]
    event_lost_total: Optional[int]  # the part of dropped_total whose step was never announced


class RequestLine(NamedTuple):
    """A request has begun. Its name is in `Trace.requests()`. event None: it began before this
    file."""

    line: int
    request: int  # its number
    prompt_tokens: Optional[int]
    cached_tokens: Optional[int]
    event: Optional[int]


class RequestEndLine(NamedTuple):
    """A request has ended. Its status is in `Trace.requests()`."""

    line: int
    request: int
    generated_tokens: Optional[int]
    event: int


class LossLine(NamedTuple):
    """Rows that the producer dropped, because a ring was full. cause: "ring_full": the rows were
    announced and found no slot; "event_ring_full": their step's announcement found none. None: a
    cause that this version does not know."""

    line: int
    dropped: int  # rows, by this line
    dropped_total: int  # running total of the trace
    cause: Optional[str]
    after_seq: Optional[
        int
    ]  # the last row's number before this line; None: it is before the first row
    event_lost_total: Optional[int]


class TornLine(NamedTuple):
    """Rows that were announced and never became whole. first_seq: the first of `count` numbers that
    have no row; None: the rows got no number."""

    line: int
    first_seq: Optional[int]
    count: int  # type: ignore[assignment]  # public; hides tuple.count()


class BaseLine(NamedTuple):
    """Where a file starts that does not begin with its trace. part: 2 or more, the file's place
    among the trace's parts; None: the collector came late. Totals are those of the trace before
    this file; `open` of attempted_total are still to come, of `step`."""

    line: int
    part: Optional[int]
    seq: int
    event: int
    step: Optional[int]
    open: int
    attempted_total: Optional[int]
    delivered_total: Optional[int]
    filtered_total: Optional[int]
    dropped_total: int
    torn_total: Optional[int]
    event_lost_total: Optional[int]


class ControlLine(NamedTuple):
    """The selection changed while the engine ran."""

    line: int
    layers: tuple[int, ...]
    sample_every: int  # every n-th step is recorded; 0: steps only count
    from_step: int  # the first one that this holds for
    enabled: Optional[bool]  # False: tracing is stopped
    event: Optional[int]
    # Why the collector stopped tracing: "max-total-size". None: it did not, or for a reason that
    # this version does not know.
    reason: Optional[str] = None


class EndLine(NamedTuple):
    """The file's last line. Totals are those of the file; announce_ns and hook_ns (time of the
    engine's threads), ring_slots and high_water are of the whole trace."""

    line: int
    attempted: int
    delivered: int
    filtered: int
    dropped: int
    torn: int
    # "closed", "producer died", "continued" or "bad segment"; None: one that this version does not
    # know
    status: Optional[str]
    announce_ns: Optional[int]
    hook_ns: Optional[int]
    open: Optional[int]  # if "continued": announced rows that the next part has
    ring_slots: Optional[int]  # rows that the ring holds
    high_water: Optional[int]  # the most rows that were in the ring when its collector looked


Line = Union[
    StepLine, RequestLine, RequestEndLine, LossLine, TornLine, BaseLine, ControlLine, EndLine
]
KINDS: dict[type[Line], int] = {
    StepLine: _reader_library.STEP,
    RequestLine: _reader_library.REQUEST,
    RequestEndLine: _reader_library.REQUEST_END,
    LossLine: _reader_library.LOSS,
    TornLine: _reader_library.TORN,
    BaseLine: _reader_library.BASE,
    ControlLine: _reader_library.CONTROL,
    EndLine: _reader_library.END,
}
_TYPES = {kind: type_ for type_, kind in KINDS.items()}
# Where a field has another name in moetrace_reader_line.
_COLUMNS = {LossLine: {"dropped": "count", "after_seq": "seq"}, TornLine: {"first_seq": "seq"}}


def _column(type_: type[Line], field: str) -> str:
    return _COLUMNS.get(type_, {}).get(field, field.removesuffix("_total"))


def _value(type_: type[Line], field: str, record: Any, live: bool) -> Any:
    if field == "line":
        return 0 if live else int(record["place"]["line"])
    if field == "cause":
        return CAUSES.get(int(record["code"]))
    if field == "reason":
        return REASONS.get(int(record["code"]))
    if field == "status":
        return STATUSES.get(int(record["code"]))
    if field == "layers" and type_ is ControlLine:
        words = [int(word) for word in record["layer_mask"]]
        return tuple(layer for layer in range(256) if words[layer // 64] >> layer % 64 & 1)
    number = int(record[_column(type_, field)])
    if field == "enabled":
        return None if number < 0 else bool(number)
    return None if number == -1 else number


def of_records(records: Any, live: bool = False) -> Iterator[Line]:
    """Lines of an array of moetrace_reader_line."""
    for record in records:
        type_ = _TYPES[int(record["kind"])]
        yield type_(*(_value(type_, field, record, live) for field in type_._fields))


def cost_of(end: Optional[dict]) -> Optional[Cost]:
    """What an end line says that tracing took of the engine's threads; None: it does not say."""
    cost = (end or {}).get("cost") or {}
    announce_ns, hook_ns = cost.get("announce_ns"), cost.get("hook_ns")
    return None if announce_ns is None or hook_ns is None else Cost(announce_ns, hook_ns)


def kinds_of(types: Iterable[type[Line]]) -> int:
    """As bits; of no types: all. ValueError for a class that is not one of lines."""
    kinds = 0
    for type_ in types:
        if type_ not in KINDS:
            names = ", ".join(known.__name__ for known in KINDS)
            raise ValueError(f"{type_!r} is not a type of lines; use {names}")
        kinds |= KINDS[type_]
    return kinds or sum(KINDS.values())


class Steps:
    """Announced forward passes, in their order. Columns are int64 arrays of one length, named as
    the fields of `StepLine`; a number that the file does not give is -1."""

    COLUMNS = StepLine._fields[1:]
    step: Any
    rows: Any
    layers: Any
    time_ns: Any
    seq: Any
    event: Any
    attempted_total: Any
    delivered_total: Any
    filtered_total: Any
    dropped_total: Any
    torn_total: Any
    event_lost_total: Any

    def __init__(self, records: Any):
        for name in Steps.COLUMNS:
            setattr(self, name, numpy().array(records[_column(StepLine, name)]))

    def __len__(self) -> int:
        return len(self.step)

    def __repr__(self) -> str:
        return f"<moetrace.Steps: {len(self)} steps, {int(self.rows.sum())} rows>"

    def columns(self) -> dict[str, Any]:
        """All of them, by name."""
        return {name: getattr(self, name) for name in Steps.COLUMNS}


class LineBuffer(_reader_library.Buffer):
    """Room for lines of some kinds."""

    def __init__(self, kinds: int, capacity: int = 4096):
        self._array = numpy().empty(capacity, numpy().dtype(_reader_library.Line))
        self.struct = _reader_library.Lines(
            size=ctypes.sizeof(_reader_library.Lines),
            line_size=ctypes.sizeof(_reader_library.Line),
            capacity=capacity,
            count=0,
            lines=self._array.ctypes.data,
            kinds=kinds,
        )

    @property
    def records(self) -> Any:
        return self._array[: self.count]


class Kept:
    """The last lines of a live trace, in bounded memory."""

    def __init__(self) -> None:
        self.losses: collections.deque[LossLine] = collections.deque(maxlen=KEPT_LINES)
        self.torn: collections.deque[TornLine] = collections.deque(maxlen=KEPT_LINES)
        self.controls: collections.deque[ControlLine] = collections.deque(maxlen=KEPT_LINES)
        self._steps: collections.deque[Any] = collections.deque()  # arrays of moetrace_reader_line
        self._step_count = 0

    def take(self, records: Any) -> None:
        steps = records["kind"] == _reader_library.STEP
        if steps.any():
            self._steps.append(records[steps])  # a copy
            self._step_count += int(steps.sum())
        while self._steps and self._step_count - len(self._steps[0]) >= KEPT_STEPS:
            self._step_count -= len(self._steps.popleft())
        kept: dict[type[Line], collections.deque[Any]] = {
            LossLine: self.losses,
            TornLine: self.torn,
            ControlLine: self.controls,
        }
        for line in of_records(records[~steps], live=True):
            if type(line) in kept:
                kept[type(line)].append(line)

    def steps(self) -> Steps:
        empty = numpy().empty(0, numpy().dtype(_reader_library.Line))
        return Steps(numpy().concatenate([empty, *self._steps])[-KEPT_STEPS:])
