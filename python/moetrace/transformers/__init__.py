"""moetrace.trace: records a Mixture-of-Experts model of Hugging Face transformers while it runs.

    with moetrace.trace(model):
        model.generate(**inputs, max_new_tokens=64)

Seen to work: Qwen2-MoE, Qwen3-MoE, Mixtral, OLMoE and DeepSeek-V3, and by the same probe whatever hands `top_k_index` and
`top_k_weights` to its experts; eager, compiled by torch.compile and with the static cache, whose decode pass generate() compiles.
Which rows are real is found out in front of each pass, outside of the graph, and the layers' operator (_torch_op.py) looks it up
while it runs. Not covered, because rows lose their place: beam search; models spread over several GPUs; layers that see other
rows than the model (expert or sequence parallelism); passes inside of a torch.cuda.graph of one's own. What generate() feeds a sequence behind a stop string, or rejects of an assistant's draft, is recorded as rows of the pass in
which it ran.
"""
from __future__ import annotations

import functools
import importlib.metadata
import logging
from typing import Any, Iterable, Iterator, Optional

from . import _passes, _routers
from ._real_rows import RealRows
from ._batch import Batch, end_tokens_of, generation_setting
from ..errors import TracingError
from ..recording.producer import Producer

_log = logging.getLogger("moetrace")

# model_type: (scores, are the top-k weights divided by their sum; None: as norm_topk_prob of the configuration says)
_ROUTERS = {"qwen2_moe": ("softmax", None), "qwen3_moe": ("softmax", None), "olmoe": ("softmax", None),
            "mixtral": ("softmax", True), "deepseek_v3": ("sigmoid", None)}


class trace:  # a context manager, named as it is used
    """Records every top-level forward of `model` until the end of the `with` block; the value is the `Producer`.

    Each generate() makes one request for each row of its batch, and so does each call of the model itself that starts without
    a cache; names come from `requests`, then r0, r1 and so on. Padding by a two-dimensional attention_mask leaves no rows, and
    neither does what generate() feeds a sequence behind its end token. A request of P prompt and G generated tokens has
    P + G - 1 rows in each layer.

    `model` may be compiled, or be what torch.compile made of it, before or inside of the block. PyTorch takes no notice of hooks
    that come to what it has compiled, so entering and leaving the block call torch.compiler.reset(): everything that this
    process has compiled is compiled again when it is next used. A function of one's own that calls the model and is compiled
    around it gets a graph break there, and with fullgraph=True PyTorch's error about it: compile the model instead.

    options: as for `Producer` (layers, sample_every, ring_mb, directory, session, enabled, seed, model_id, ...); what the model
    and its configuration tell is filled in. Raises TracingError, with one line, for a model that can't be traced or a ring
    that can't be made, and TypeError for what is no model. MoE layers that can't be bound are named in one line of the logger
    "moetrace".
    """

    def __init__(self, model: Any, *, requests: Iterable[str] = (), **options: Any):
        self._model = model = getattr(model, "_orig_mod", model)
        if not hasattr(model, "named_modules"):
            raise TypeError(f"trace: a {type(model).__name__} is no model of Hugging Face transformers; give one, such as "
                            "AutoModelForCausalLM.from_pretrained(...)")
        self._bindings = _find(model)
        self._options = {**_describe(model, self._bindings), **options}
        self._names = _names(requests)
        self._handles: list[Any] = []
        self._batch: Optional[Batch] = None
        self._pass: Optional[_passes.Pass] = None
        self._real_rows = RealRows()
        self._replaced: list[tuple[str, list]] = []  # methods of the model: name, what its instance had under it
        self._masks: list[Any] = []  # the two-dimensional attention_mask, or None, of the pass that generate() has prepared
        self._generating = False
        self._paused = False
        self._ends: frozenset = frozenset()
        self._said: set[str] = set()

    def __enter__(self) -> Producer:
        self._producer = Producer(**self._options)
        if self._options.get("enabled", True):
            self._attach()
        return self._producer

    def __exit__(self, *error: Any) -> None:
        self._detach()
        self._end_batch(None, "cancelled" if error[0] else "forward")
        self._producer.close()

    def _attach(self) -> None:
        import torch  # not needed by who records without it

        from . import _torch_op

        model, self._key = self._model, _torch_op.new_key()
        _torch_op.bind(self._key, self._routed)
        # PyTorch runs the hooks of what it compiles outside of the graph; disabled, it leaves their own code alone, too.
        before, after = torch.compiler.disable(self._before), torch.compiler.disable(self._after)
        self._handles = [model.register_forward_pre_hook(before, with_kwargs=True),
                         model.register_forward_hook(after, always_call=True)]
        for layer, module, attach in self._bindings:
            token = _torch_op.token_on(next(module.parameters()).device)
            self._handles.append(attach(functools.partial(_torch_op.routed, token, layer, self._key)))
        for name, around in (("generate", self._generate), ("prepare_inputs_for_generation", self._prepare)):
            if hasattr(model, name):
                self._replaced.append((name, [vars(model)[name]] if name in vars(model) else []))
                original = getattr(model, name)
                setattr(model, name, functools.wraps(original)(functools.partial(around, original)))
        torch.compiler.reset()

    def _detach(self) -> None:
        if not self._handles:
            return
        import torch

        from . import _torch_op

        for handle in self._handles:
            handle.remove()
        for name, before in self._replaced:
            delattr(self._model, name)  # the class's shows again
            for value in before:
                setattr(self._model, name, value)
        self._handles.clear()
        self._replaced.clear()
        _torch_op.bind(self._key, None)
        torch.compiler.reset()  # no graph may write to a ring that is closed

    def _before(self, model: Any, args: tuple, kwargs: dict) -> None:
        self._pass = None
        if self._paused:
            return
        batch = self._batch
        if self._masks:  # what the pass itself is given may be a mask of four dimensions
            kwargs = {**kwargs, "attention_mask": self._masks.pop()}
        try:
            self._real_rows.check_not_captured(self._options["cuda_device"])
            if batch and self._generating and self._ends and (ids := kwargs.get("input_ids")) is not None:
                batch.mark_finished(ids[:, -1].tolist(), self._ends)
            layout = _passes.layout(model, args, kwargs, batch.finished if batch and self._generating else [])
        except ValueError as error:
            self._say(f"a pass is not recorded: {error}")
            return
        starts = not self._generating and not any(layout.firsts)
        if batch is None or starts or len(batch.requests) != len(layout.counts):
            self._end_batch(None, "forward")
            batch = self._batch = Batch(self._producer, self._names, layout)
        self._pass = layout
        self._real_rows.announce(layout, self._options["cuda_device"])
        self._producer.step(sum(layout.counts), batch.spans(layout))

    def _routed(self, layer: int, ids: Any, weights: Any) -> None:
        if self._pass is None:
            return
        if ids.numel() != self._pass.padded_rows * ids.shape[-1]:
            self._say(f"layer {layer} is not recorded: it does not see the rows of the model's pass")
            return
        ids = ids.detach().reshape(-1, ids.shape[-1])
        weights = weights if weights is None else weights.detach().reshape(ids.shape)
        real = self._real_rows.index()
        if real is not None:
            ids, weights = ids[real], weights if weights is None else weights[real]
        try:
            self._producer.record(layer, ids.contiguous(), weights if weights is None else weights.contiguous())
        except (TypeError, ValueError) as error:
            self._say(f"layer {layer} is not recorded: {error}")

    def _after(self, _model: Any, _args: tuple, _output: Any) -> None:
        if self._pass is not None:
            self._producer.abort()  # what runs from here on was not announced
        self._pass = None

    def _prepare(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        mask = kwargs.get("attention_mask")
        self._masks = [mask] if getattr(mask, "ndim", 2) == 2 else []
        return original(*args, **kwargs)

    def _generate(self, original: Any, *args: Any, **kwargs: Any) -> Any:
        why = _refuse(self._model, kwargs)
        if why:
            self._say(f"this generate() is not recorded: {why}")
            self._paused = True
        self._end_batch(None, "forward")
        self._generating, self._ends = True, end_tokens_of(self._model, kwargs)
        generated, status = None, "cancelled"
        try:
            output = original(*args, **kwargs)
            generated, status = self._behind_prompt(output, args, kwargs), "length"
            return output
        finally:
            self._end_batch(generated, status)
            self._generating = self._paused = False
            self._masks.clear()

    def _behind_prompt(self, output: Any, args: tuple, kwargs: dict) -> list[list[int]]:
        sequences = getattr(output, "sequences", output)
        prompt = args[0] if args else kwargs.get("inputs", kwargs.get("input_ids"))
        # Given embeddings alone, generate() returns new tokens alone.
        return sequences[:, 0 if prompt is None else prompt.shape[1]:].tolist()

    def _end_batch(self, generated: Optional[list[list[int]]], status: str) -> None:
        if self._batch is not None:
            self._batch.end(generated, self._ends, status)
            self._batch = None

    def _say(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            _log.warning("moetrace: %s", line)


def _find(model: Any) -> list[_routers.Binding]:
    bindings, missed = _routers.find(model)
    if not bindings:
        raise TracingError(f"trace: {type(model).__name__} has no layer whose router can be found; call Producer.record in "
                           "its forward instead")
    for layer in missed:
        _log.warning("moetrace: layer %d is not recorded: its router can't be told from its modules", layer)
    devices = {str(parameter.device) for binding in bindings for parameter in binding.module.parameters()}
    if len(devices) > 1:
        raise TracingError(f"trace: the model's experts are on {', '.join(sorted(devices))}, and a ring is of one device; "
                           "put the model on one")
    return bindings


def _describe(model: Any, bindings: list[_routers.Binding]) -> dict[str, Any]:
    """What `Producer` wants to know, from the model and its configuration."""
    if not hasattr(model, "config"):
        raise TracingError(f"trace: {type(model).__name__} has no configuration, as models of Hugging Face transformers do; call "
                           "Producer.record in its forward instead")
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    score, renormalized = _ROUTERS.get(config.model_type, (None, False))
    device = next(bindings[0].module.parameters()).device
    return {"model_id": getattr(model.config, "_name_or_path", None) or None,
            "num_layers": config.num_hidden_layers,
            "num_experts": _first(config, "num_experts", "num_local_experts", "n_routed_experts"),
            "top_k": _first(config, "num_experts_per_tok", "moe_topk", "top_k"),
            "moe_layers": [binding.layer for binding in bindings],
            "engine": "transformers", "engine_version": importlib.metadata.version("transformers"),
            "torch_version": importlib.metadata.version("torch"),
            "router_score": score,
            "router_renormalized": bool(getattr(config, "norm_topk_prob", False) if renormalized is None else renormalized),
            "router_scaling": float(getattr(config, "routed_scaling_factor", None) or 1.0),
            "cuda_device": device.index if device.type == "cuda" else None}


def _first(config: Any, *names: str) -> int:
    value = next((getattr(config, name) for name in names if getattr(config, name, None) is not None), None)
    if value is None:
        raise TracingError(f"trace: the configuration of {config.model_type} has none of {', '.join(names)}; give it to trace()")
    return value


def _names(given: Iterable[str]) -> Iterator[str]:
    yield from given
    number = 0
    while True:
        yield f"r{number}"
        number += 1


def _refuse(model: Any, kwargs: dict) -> Optional[str]:
    if (generation_setting(model, kwargs, "num_beams") or 1) > 1:
        return "beam search moves sequences between rows"
    return None
