"""Patches of vLLM's model runners: a loaded model, a step's schedule, and the pass that follows."""

from __future__ import annotations

import functools
import logging
from typing import Any, Callable, Optional

from ..recording._adapter import in_one_line
from ._runner_tracer import RunnerTracer

_log = logging.getLogger("moetrace")

_TRACER = "_moetrace_tracer"  # the attribute of a runner; None: the runner is not traced


def patch(module: Any) -> None:
    """Wraps the methods that the runner classes of `module` define themselves. Inherited methods
    are wrapped in the module that defines them."""
    for cls in vars(module).values():
        if (
            isinstance(cls, type)
            and cls.__module__ == module.__name__
            and cls.__name__.endswith("ModelRunner")
        ):
            for name, wrap in _WRAPPERS.items():
                if name in vars(cls):
                    setattr(cls, name, wrap(vars(cls)[name]))


def patch_worker(module: Any) -> None:
    """The GPU's worker warms runner V2 up with requests of its own, by the methods that real
    requests use. These are not announced."""
    original = module.Worker.compile_or_warm_up_model

    @functools.wraps(original)
    def compile_or_warm_up_model(worker: Any, *args: Any, **kwargs: Any) -> Any:
        runner = worker.model_runner
        tracer = getattr(runner, _TRACER, None)
        setattr(runner, _TRACER, None)
        try:
            return original(worker, *args, **kwargs)
        finally:
            setattr(runner, _TRACER, tracer)

    module.Worker.compile_or_warm_up_model = compile_or_warm_up_model


def _load_model(original: Callable) -> Callable:
    @functools.wraps(original)
    def load_model(runner: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(runner, *args, **kwargs)
        _attach(runner)
        return result

    return load_model


def _execute_model(original: Callable) -> Callable:
    @functools.wraps(original)
    def execute_model(runner: Any, scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        # V2 also runs its dummy passes through this method.
        if not kwargs.get("dummy_run", len(args) > 1 and args[1]):
            _guarded(runner, RunnerTracer.follow, scheduler_output)
        return original(runner, scheduler_output, *args, **kwargs)

    return execute_model


def _model_forward(original: Callable) -> Callable:
    """V1: only execute_model calls it, with the batch in its final order."""

    @functools.wraps(original)
    def _model_forward(runner: Any, *args: Any, **kwargs: Any) -> Any:
        _guarded(runner, _announce_v1, runner)
        return original(runner, *args, **kwargs)

    return _model_forward


def _announce_v1(tracer: RunnerTracer, runner: Any) -> None:
    batch = runner.input_batch
    ids, count = batch.req_ids, batch.num_reqs
    if len(ids) != count:
        ids = ids[:count]
    tracer.announce(ids, runner.query_start_loc.np, batch.num_computed_tokens_cpu)


def _prepare_inputs(original: Callable) -> Callable:
    """V2: execute_model calls it for real passes only, just before the forward or the replay of its
    graph."""

    @functools.wraps(original)
    def prepare_inputs(runner: Any, *args: Any, **kwargs: Any) -> Any:
        batch = original(runner, *args, **kwargs)
        _guarded(runner, _announce_v2, batch)
        return batch

    return prepare_inputs


def _announce_v2(tracer: RunnerTracer, batch: Any) -> None:
    tracer.announce(batch.req_ids, batch.query_start_loc_np, batch.num_computed_tokens_np)


def _shutdown(original: Callable) -> Callable:
    @functools.wraps(original)
    def shutdown(runner: Any, *args: Any, **kwargs: Any) -> Any:
        _guarded(runner, RunnerTracer.close)
        return original(runner, *args, **kwargs)

    return shutdown


_WRAPPERS = {
    "load_model": _load_model,
    "execute_model": _execute_model,
    "_model_forward": _model_forward,
    "prepare_inputs": _prepare_inputs,
    "shutdown": _shutdown,
}


def _attach(runner: Any) -> None:
    """Binds the model that `runner` has just loaded. If that fails, the engine runs untraced."""
    _guarded(runner, RunnerTracer.close)  # of the model that the runner had before, if any
    tracer: Optional[RunnerTracer] = None
    try:
        tracer = RunnerTracer.of(runner)
    except Exception as error:
        _say_off(error)
    setattr(runner, _TRACER, tracer)


def _guarded(runner: Any, function: Callable, *args: Any) -> None:
    """function(tracer, *args). If it raises, this runner is no longer traced, and the engine does
    not notice."""
    tracer = getattr(runner, _TRACER, None)
    if tracer is None:
        return
    try:
        function(tracer, *args)
    except Exception as error:
        setattr(runner, _TRACER, None)
        _say_off(error)
        tracer.give_up()


def _say_off(error: Exception) -> None:
    _log.warning("moetrace: this process is not traced: %s", in_one_line(error))
