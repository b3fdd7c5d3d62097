"""Producer: the hook for an engine in Python. It calls the C API of producer/producer.h."""

from __future__ import annotations

import ctypes
import logging
import os
import time
from typing import Any, Iterable, Mapping, Optional, Sequence, Union

from ..errors import TracingError
from . import _arguments, _library, _tensors
from ._counts import Cost, Totals
from ._layer_info import LayerInfo
from ._options import options_of
from ._request import Request
from ._spans import SPAN_FIELDS, Span, span_array

__all__ = ["SPAN_FIELDS", "Cost", "LayerInfo", "Producer", "Request", "Span", "Totals", "enabled"]

_log = logging.getLogger("moetrace")

_REPORT_NS = 1_000_000  # report the time spent in Python to the library after this much of it


def enabled() -> bool:
    """Whether MOETRACE is 1, yes, true or on, in any case. The engine decides whether to ask.

    Unset, "", 0, no, false and off are off. Any other value is off, with one line on stderr. Raises
    TracingError if MOETRACE is set and the library can't be loaded.
    """
    return bool(os.environ.get("MOETRACE")) and bool(_library.load().moetrace_enabled())


class Producer:
    """A ring for one model in this process, and the hook that fills it.

        with moetrace.Producer(num_layers=24, num_experts=60, top_k=4, model_id="a/b") as producer:
            request = producer.request("r0", prompt_tokens=57)
            producer.step(57, [(request, 0, 0, 57)])  # the next pass: positions 0 to 56
            for layer in range(24):
                producer.record(layer, ids, weights)  # [57, 4] each, after the layer's router
            request.end(generated_tokens=1, status="stop")

    Call it from one thread at a time. It never waits for a collector; a full ring drops the newest
    records and counts them (`totals`). In a forked child, and after `close`, every call does
    nothing.

    Arguments are those of moetrace_options; None means unknown. For directory, session, ring_mb,
    layers and sample_every, None means the environment's value (MOETRACE_DIR, _SESSION, _RING_MB,
    _LAYERS, _SAMPLE), else the default.

    num_layers: all layers of the model, also dense ones, 1 to 256.
    num_experts: ids are below it, 1 to 65535: routed and zero-computation experts of a layer; where
        layers differ, the largest.
    top_k: 1 to 32; where layers differ, the largest.
    moe_layers: the layers that call `record` in every pass; None: those of layer_table, else all.
    layer_table: what is known of each MoE layer: a `moetrace.LayerInfo` by the layer's number. Its
        top_k and experts decide what `record` takes for the layer; the rest describes it to a
        reader of the trace.
    layers: the layers to record: "0,5-7", "all" or numbers.
    sample_every: 1 records every step, n every n-th; 0 only counts.
    ring_mb: MiB, rounded up to a power of two of records.
    largest_step: the most rows that a step can have, if you know it. Where neither ring_mb nor
        MOETRACE_RING_MB sets a size, the ring gets room for four such steps instead of 64 MiB.
    router_score: "softmax" or "sigmoid". router_biased: experts are chosen by score plus bias.
    router_groups, router_topk_groups: experts are chosen within the best router_topk_groups of
        router_groups groups.
    notes: what a reader of the trace must know, a line each, 1023 bytes in all.
    engine_id: names the engine that this process belongs to, the same in all its ranks, so that
        their traces can be joined; 63 bytes are kept. None: MOETRACE_ENGINE_ID, else unknown.
    cuda_device: the GPU whose memory holds what is recorded; None: host memory.
    enabled: False makes a producer that does nothing, so that an engine needs no `if`:
        `enabled=moetrace.enabled()`.

    Raises TracingError, with one line, if the ring can't be made. The logger "moetrace" gets a line
    that names those of `layers` that are not MoE layers, and one if no collector is attached.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        num_experts: int,
        top_k: int,
        model_id: Optional[str] = None,
        moe_layers: Optional[Iterable[int]] = None,
        layer_table: Optional[Mapping[int, LayerInfo]] = None,
        layers: Union[str, Iterable[int], None] = None,
        sample_every: Optional[int] = None,
        ring_mb: Optional[float] = None,
        largest_step: Optional[int] = None,
        directory: Optional[str] = None,
        session: Optional[str] = None,
        engine: Optional[str] = None,
        engine_version: Optional[str] = None,
        vllm_version: Optional[str] = None,
        torch_version: Optional[str] = None,
        device: Optional[str] = None,
        seed: Optional[int] = None,
        router_score: Optional[str] = None,
        router_renormalized: bool = False,
        router_scaling: float = 1.0,
        router_biased: bool = False,
        router_groups: Optional[int] = None,
        router_topk_groups: Optional[int] = None,
        notes: Iterable[str] = (),
        engine_id: Optional[str] = None,
        rank: int = 0,
        world_size: int = 1,
        tp_rank: int = 0,
        dp_rank: int = 0,
        pp_rank: int = 0,
        ep_rank: int = 0,
        cuda_device: Optional[int] = None,
        enabled: bool = True,
    ):
        given = dict(locals())
        self._library = _library.load()
        self._pointer: Optional[int] = None
        self._last, self._last_cost = Totals(), Cost()
        self._cuda_device = cuda_device
        self._num_layers, self._top_k = num_layers, top_k
        self._top_k_of: dict[int, int] = {}  # of the layers whose own is known
        # Spent in Python around the library's calls, and not reported to it yet.
        self._announce_ns = self._hook_ns = 0
        self._kept: list[Any] = []  # tensors that branches on the GPU still read
        self._handle = ctypes.c_void_p()  # the pointer, where compiled code finds it
        self.trace_id = ""  # the trace's UUID, 36 characters; "" if not enabled
        # One line for a log: the model, its recorded layers, session and ring, its size, where that
        # comes from and what it holds; "" if not enabled.
        self.summary = ""
        if enabled:
            self._open(given)

    def _open(self, given: dict[str, Any]) -> None:
        options = options_of(given)
        why = ctypes.create_string_buffer(_library.ERROR_BYTES)
        self._pointer = self._library.moetrace_open(ctypes.byref(options), why, len(why))
        if not self._pointer:
            raise TracingError(why.value.decode(errors="replace"))
        if why.value:
            _log.warning("moetrace: %s", why.value.decode(errors="replace"))
        self._handle.value = self._pointer
        for layer, info in (given["layer_table"] or {}).items():
            if info.top_k is not None:
                self._top_k_of[layer] = info.top_k
        self.trace_id = self._library.moetrace_trace_id(self._pointer).decode()
        self.summary = self._library.moetrace_summary(self._pointer).decode(errors="replace")
        self._say_unserved()

    def _say_unserved(self) -> None:
        line = self._library.moetrace_no_collector(self._pointer)
        if line:
            _log.warning("moetrace: %s", line.decode(errors="replace"))

    def request(
        self, id: str, prompt_tokens: Optional[int] = None, cached_tokens: Optional[int] = 0
    ) -> Request:
        """Announces a request that enters the batch.

        id: at most 255 bytes of UTF-8 are kept. prompt_tokens, cached_tokens: None: unknown. Cached
        tokens of the prompt come from a cache, so that they have no rows.
        """
        number = self._library.moetrace_request_begin(
            self._pointer,
            _arguments.text("request: id", id),
            _arguments.tokens("request: prompt_tokens", prompt_tokens),
            _arguments.tokens("request: cached_tokens", cached_tokens),
        )
        return Request(self, number)

    def _end_request(self, number: int, generated_tokens: Optional[int], status: str) -> None:
        self._library.moetrace_request_end(
            self._pointer,
            number,
            _arguments.tokens("end: generated_tokens", generated_tokens),
            _arguments.text("end: status", status),
        )

    def step(self, rows: int, spans: Sequence[tuple] = (), stream: Any = None) -> bool:
        """Announces the next pass, before it runs: its number of real rows (without padding) and
        which tokens they are.

        spans: `Span`s or tuples (request, first_position, first_row, rows), disjoint, within
            [0, rows), of live requests; a row without a span has no request. Or a contiguous numpy
            array with the fields `SPAN_FIELDS`, requests by their numbers.
        stream: the GPU's, where the pass runs next (see `record`).

        Returns True if this pass is recorded, False if it is only counted, or not observed. Raises
        TypeError or ValueError, with one line, for a wrong number, span or request.
        """
        started = time.perf_counter_ns()
        if type(rows) is not int or not 0 <= rows <= _arguments.MOST_U32:
            rows = _arguments.number("step: rows", rows, _arguments.MOST_U32)
        array, count = span_array(spans)
        if self._cuda_device is None:
            self._announce_ns += time.perf_counter_ns() - started
            return bool(self._library.moetrace_step_begin(self._pointer, rows, array, count))
        address = _tensors.stream_address(stream, self._cuda_device)
        self._announce_ns += time.perf_counter_ns() - started
        recorded = self._library.moetrace_step_begin_cuda(
            self._pointer, address, rows, array, count
        )
        self._kept.clear()  # the announcement has joined all branches
        return bool(recorded)

    def record(
        self,
        layer: int,
        ids: Any,
        weights: Any = None,
        stream: Any = None,
        *,
        branch: bool = False,
        deferred: bool = False,
    ) -> None:
        """Records one layer's routing, after its router. Record the layers of a pass in ascending
        order.

        ids: [rows, top_k], int16, int32, int64 or uint32, top_k being the layer's own if
            layer_table has it. An id outside [0, num_experts), or outside the layer's range, is
            recorded as null.
        weights: the same shape, float32, float16 or bfloat16; None: unknown.

        Both are numpy arrays or torch tensors, in host memory or, with `cuda_device`, in that GPU's
        memory and contiguous. Rows past the announced ones are padding and left out; without an
        announcement nothing is recorded. Host memory may be freed after the call.

        On a GPU a kernel in `stream` (an address, a torch.cuda.Stream, None: torch's current one)
        records them. With `branch` the kernel runs beside the stream, which is faster; until
        `join`, or the next `step`, this object keeps the tensors alive, and you must not write to
        them. With `deferred` one kernel records all layers of the pass, at the `join` or, under
        capture, beside the last layer's experts, which costs least. Use it for models whose layers
        have tensors of their own, with one `join` a pass, at its end.

        Raises TypeError or ValueError, with one line, for arrays of another kind, dtype, device or
        shape, and for a layer that the model does not have. A layer that is not selected, or was
        already recorded in this pass, is ignored.
        """
        if self._pointer is None:
            return
        started = time.perf_counter_ns()
        if type(layer) is not int or not 0 <= layer < self._num_layers:
            layer = _arguments.number("record: layer", layer, self._num_layers - 1)
        i, w = _tensors.views_of(
            ids, weights, self._top_k_of.get(layer, self._top_k), self._cuda_device
        )
        routing = (layer, i.address, i.type, w.address if w else None, w.type if w else 0, i.rows)
        if self._cuda_device is None:
            self._hook_ns += time.perf_counter_ns() - started
            self._library.moetrace_record(self._pointer, *routing)
            return
        address = _tensors.stream_address(stream, self._cuda_device)
        self._hook_ns += time.perf_counter_ns() - started
        if not branch and not deferred:
            self._library.moetrace_record_cuda_in_line(self._pointer, address, *routing)
            return
        self._kept.append((ids, weights))
        launch = (
            self._library.moetrace_record_cuda_deferred
            if deferred
            else self._library.moetrace_record_cuda
        )
        launch(self._pointer, address, *routing)

    def join(self, stream: Any = None) -> None:
        """Joins the branches since the last join. Call it when the experts of the layer, or of all
        layers, have been enqueued. Without a GPU it does nothing."""
        if self._cuda_device is not None:
            self._library.moetrace_join(
                self._pointer, _tensors.stream_address(stream, self._cuda_device)
            )
            self._kept.clear()

    def abort(self, stream: Any = None) -> None:
        """Withdraws the announcement: the pass failed, or the next pass must leave no rows."""
        if self._cuda_device is None:
            self._library.moetrace_step_abort(self._pointer)
        else:
            self._library.moetrace_step_abort_cuda(
                self._pointer, _tensors.stream_address(stream, self._cuda_device)
            )

    @property
    def totals(self) -> Totals:
        """The counters; on a GPU, those at the end of the last finished step. After `close`: the
        last ones."""
        self._look()
        return self._last

    @property
    def cost(self) -> Cost:
        """The cost of tracing so far: in `step` and `record`, and reported with `add_cost`. After
        `close`: the last one."""
        self._look()
        return self._last_cost

    def _look(self) -> None:
        if self._pointer is not None:
            self._report()
            totals = _library.Totals(size=ctypes.sizeof(_library.Totals))
            self._library.moetrace_get_totals(self._pointer, ctypes.byref(totals))
            self._last = Totals(totals.steps, totals.attempted, totals.recorded, totals.dropped)
            self._last_cost = Cost(totals.announce_ns, totals.hook_ns)

    def add_cost(self, announce_ns: int = 0, hook_ns: int = 0) -> None:
        """Adds the time that an adapter spends around `step` and `record` to the time that these
        measure; the trace's `end` line has the sum. Raises ValueError for a negative time."""
        if announce_ns < 0 or hook_ns < 0:
            raise ValueError(f"add_cost: {announce_ns} and {hook_ns} ns; times can't be negative")
        self._announce_ns += announce_ns
        self._hook_ns += hook_ns
        if self._announce_ns + self._hook_ns >= _REPORT_NS:
            self._report()

    def _report(self) -> None:
        self._library.moetrace_add_cost(self._pointer, self._announce_ns, self._hook_ns)
        self._announce_ns = self._hook_ns = 0

    @property
    def failure(self) -> Optional[str]:
        """Why the GPU's hook has turned itself off, in one line; None: it is on."""
        why = self._library.moetrace_failure(self._pointer)
        return None if why is None else why.decode(errors="replace")

    def _lend(self) -> tuple:
        """What moetrace_steps announces with: the handle, null after `close`, and its address; the
        list that its announcements clear; `current_stream()` and the device, or None and None."""
        on_gpu = self._cuda_device is not None
        return (
            self._handle,
            ctypes.addressof(self._handle),
            self._kept,
            _tensors.current_stream() if on_gpu else None,
            self._cuda_device,
        )

    def close(self) -> None:
        """Ends the trace; the collector drains what is left. A second call does nothing."""
        if self._pointer is not None:
            self._look()
            pointer, self._pointer, self._handle.value = self._pointer, None, None
            self._library.moetrace_close(pointer)

    def __enter__(self) -> "Producer":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()
