"""moetrace.trace: records a Mixture-of-Experts model of Hugging Face transformers while it runs.

    with moetrace.trace(model):
        model.generate(**inputs, max_new_tokens=64)

Checked with Qwen2-MoE, Qwen3-MoE, Mixtral, OLMoE and DeepSeek-V3: eager, compiled by torch.compile,
and with the static cache, whose decode pass generate() compiles. The same probe binds every model
that passes `top_k_index` and `top_k_weights` to its experts.

Real rows are found before each pass, outside of the graph. The layers' operator
(recording/_torch_op.py) looks them up while it runs.

Not covered, because rows lose their place: beam search; models spread over several GPUs; layers
that see other rows than the model (expert or sequence parallelism); passes inside of your own
torch.cuda.graph. Tokens that generate() feeds a sequence after a stop string, or rejects of an
assistant's draft, are rows of the pass in which they ran.
"""

from __future__ import annotations

import functools
import logging
from typing import Any, Iterable, Iterator, Optional

from ..errors import TracingError
from ..recording import _adapter
from ..recording.producer import LayerInfo, Producer
from . import _passes, _routers
from ._real_rows import RealRows
from ._sequences import Sequences, end_tokens_of, generation_setting

_log = logging.getLogger("moetrace")

# model_type: (scores; are the top-k weights divided by their sum, None: as norm_topk_prob of the
# configuration says; are experts chosen by score plus bias)
_ROUTERS = {
    "qwen2_moe": ("softmax", None, False),
    "qwen3_moe": ("softmax", None, False),
    "olmoe": ("softmax", None, False),
    "mixtral": ("softmax", True, False),
    "deepseek_v3": ("sigmoid", None, True),
}


class trace:  # a context manager, named as it is used
    """Records every top-level forward of `model` until the end of the `with` block. The value is
    the `Producer`.

    Each generate() makes one request for each row of its batch, and so does each call of the model
    itself that starts without a cache. Names come from `requests`, then r0, r1 and so on. Padding
    by a two-dimensional attention_mask leaves no rows, and neither does what generate() feeds a
    sequence after its end token. A request of P prompt and G generated tokens has P + G - 1 rows in
    each layer.

    `model` may be compiled, or be the result of torch.compile, before or inside of the block.
    PyTorch ignores hooks that are added to compiled modules, so that entering and leaving the block
    call torch.compiler.reset(): everything that this process has compiled is compiled again at its
    next use. If you compile a function that calls the model, it gets a graph break there, and with
    fullgraph=True PyTorch's error about it: compile the model instead.

    options: as for `Producer` (layers, sample_every, ring_mb, largest_step, directory, session,
    enabled, seed, model_id, ...). An option that you leave out comes from the model and its
    configuration.

    Raises TracingError, with one line, for a model that can't be traced and for a ring that can't
    be made, and TypeError if `model` is not a model. The logger "moetrace" gets a line for each MoE
    layer that can't be bound.
    """

    def __init__(self, model: Any, *, requests: Iterable[str] = (), **options: Any):
        self._model = model = getattr(model, "_orig_mod", model)
        if not hasattr(model, "named_modules"):
            raise TypeError(
                f"trace: expected a model of Hugging Face transformers, not a "
                f"{type(model).__name__}; give one, such as "
                "AutoModelForCausalLM.from_pretrained(...)"
            )
        self._bindings = _find(model)
        self._options = _describe(model, self._bindings, options)
        self._names = _names(requests)
        self._key = -1  # of the operator
        self._handles: list[Any] = []
        self._sequences: Optional[Sequences] = None
        self._pass: Optional[_passes.Pass] = None
        self._real_rows = RealRows()
        # Methods of the model that are replaced: name, what its instance had under the name.
        self._replaced: list[tuple[str, list]] = []
        # The two-dimensional attention_mask, or None, of the pass that generate() has prepared.
        self._masks: list[Any] = []
        self._generating = False
        self._paused = False
        self._ends: frozenset = frozenset()
        self._say = _adapter.SayOnce()

    def __enter__(self) -> Producer:
        self._producer = Producer(**self._options)
        if self._options.get("enabled", True):
            try:
                self._attach()
            except BaseException:
                self._detach()
                self._producer.close()
                raise
            _log.info("moetrace: tracing %s", self._producer.summary)
        return self._producer

    def __exit__(self, *error: Any) -> None:
        self._detach()
        self._end_sequences(None, "cancelled" if error[0] else "forward")
        self._producer.close()

    def _attach(self) -> None:
        import torch  # not needed for recording without it

        from ..recording import _torch_op

        model, self._key = self._model, _torch_op.new_key()
        # PyTorch runs the hooks of a compiled module outside of the graph. Disabled, it does not
        # compile their own code, either.
        before = torch.compiler.disable(self._before)
        after = torch.compiler.disable(self._after)
        self._handles.append(model.register_forward_pre_hook(before, with_kwargs=True))
        self._handles.append(model.register_forward_hook(after, always_call=True))
        for binding in self._bindings:
            token = _torch_op.token_on(next(binding.module.parameters()).device)
            routed = functools.partial(_torch_op.routed, token, binding.layer, self._key)
            self._handles.append(binding.attach(routed))
        for name, around in (
            ("generate", self._generate),
            ("prepare_inputs_for_generation", self._prepare),
        ):
            if hasattr(model, name):
                own = [vars(model)[name]] if name in vars(model) else []
                original = getattr(model, name)
                wrapper = functools.wraps(original)(functools.partial(around, original))
                setattr(model, name, wrapper)
                self._replaced.append((name, own))
        _torch_op.bind(self._key, self._routed)
        torch.compiler.reset()

    def _detach(self) -> None:
        if not self._handles:
            return
        import torch

        from ..recording import _torch_op

        for handle in self._handles:
            handle.remove()
        for name, before in self._replaced:
            delattr(self._model, name)  # the class's method shows again
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
        try:
            self._announce(model, args, kwargs)
        except ValueError as error:
            self._say(f"a pass is not recorded: {error}")
        except Exception as error:  # the model must go on
            self._say(f"a pass is not recorded: {_adapter.in_one_line(error)}")

    def _announce(self, model: Any, args: tuple, kwargs: dict) -> None:
        sequences = self._sequences
        if self._masks:  # the pass itself may be given a mask of four dimensions
            kwargs = {**kwargs, "attention_mask": self._masks.pop()}
        self._real_rows.check_not_captured(self._options["cuda_device"])
        finished: list[bool] = []
        if sequences and self._generating:
            ids = kwargs.get("input_ids")
            if self._ends and ids is not None:
                sequences.mark_finished(ids[:, -1].tolist(), self._ends)
            finished = sequences.finished
        layout = _passes.layout(model, args, kwargs, finished)
        starts = not self._generating and not any(layout.firsts)
        if sequences is None or starts or len(sequences.requests) != len(layout.counts):
            self._end_sequences(None, "forward")
            sequences = self._sequences = Sequences(self._producer, self._names, layout)
        self._real_rows.announce(layout, self._options["cuda_device"])
        self._producer.step(*sequences.spans(layout))
        self._pass = layout

    def _routed(self, layer: int, ids: Any, weights: Any) -> None:
        if self._pass is None:
            return
        if ids.numel() != self._pass.padded_rows * ids.shape[-1]:
            self._say(
                f"layer {layer} is not recorded: it does not see the rows of the model's pass"
            )
            return
        ids = ids.detach().reshape(-1, ids.shape[-1])
        weights = None if weights is None else weights.detach().reshape(ids.shape)
        real = self._real_rows.index()
        if real is not None:
            ids, weights = ids[real], None if weights is None else weights[real]
        try:
            self._producer.record(
                layer, ids.contiguous(), None if weights is None else weights.contiguous()
            )
        except (TypeError, ValueError) as error:
            self._say(f"layer {layer} is not recorded: {error}")

    def _after(self, _model: Any, _args: tuple, _output: Any) -> None:
        if self._pass is not None:
            self._producer.abort()  # passes of inner modules from here on are not announced
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
        self._end_sequences(None, "forward")
        self._generating, self._ends = True, end_tokens_of(self._model, kwargs)
        generated, status = None, "cancelled"
        try:
            output = original(*args, **kwargs)
            generated, status = self._after_prompt(output, args, kwargs), "length"
            return output
        finally:
            self._end_sequences(generated, status)
            self._generating = self._paused = False
            self._masks.clear()

    def _after_prompt(self, output: Any, args: tuple, kwargs: dict) -> Optional[list[list[int]]]:
        """The new tokens of each sequence; None: unknown."""
        try:
            sequences = getattr(output, "sequences", output)
            prompt = args[0] if args else kwargs.get("inputs", kwargs.get("input_ids"))
            # Given only embeddings, generate() returns only new tokens.
            return sequences[:, 0 if prompt is None else prompt.shape[1] :].tolist()
        except Exception as error:  # the caller must get what generate() returned
            self._say(f"generated tokens are unknown: {_adapter.in_one_line(error)}")
            return None

    def _end_sequences(self, generated: Optional[list[list[int]]], status: str) -> None:
        if self._sequences is not None:
            self._sequences.end(generated, self._ends, status)
            self._sequences = None


def _find(model: Any) -> list[_routers.Binding]:
    bindings, missed = _routers.find(model)
    if not bindings:
        raise TracingError(
            f"trace: {type(model).__name__} has no layer whose router can be found; call "
            "Producer.record in its forward instead"
        )
    for layer in missed:
        _log.warning(
            "moetrace: layer %d is not recorded: its router can't be told from its modules", layer
        )
    devices = {
        str(parameter.device) for binding in bindings for parameter in binding.module.parameters()
    }
    if len(devices) > 1:
        raise TracingError(
            f"trace: the model's experts are on {', '.join(sorted(devices))}, and a ring is of one "
            "device; put the model on one"
        )
    if not devices:
        raise TracingError(
            "trace: the model's experts have no parameters that say their device; call "
            "Producer.record in its forward instead"
        )
    return bindings


def _describe(
    model: Any, bindings: list[_routers.Binding], options: dict[str, Any]
) -> dict[str, Any]:
    """The arguments of `Producer`: `options`, and for what they leave out, what the model and its
    configuration say. Raises TracingError if neither has a necessary one."""
    if not hasattr(model, "config"):
        raise TracingError(
            f"trace: {type(model).__name__} has no configuration, as models of Hugging Face "
            "transformers have; call Producer.record in its forward instead"
        )
    config = model.config
    if hasattr(config, "get_text_config"):
        config = config.get_text_config()
    num_layers = options["num_layers"] if "num_layers" in options else _num_layers(config)
    table = _layer_table(config, bindings, num_layers, options)
    first = table[bindings[0].layer]
    device = next(bindings[0].module.parameters()).device
    described: dict[str, Any] = {
        "model_id": getattr(model.config, "_name_or_path", None) or None,
        "moe_layers": [binding.layer for binding in bindings],
        "engine": "transformers",
        "engine_version": _adapter.installed_version("transformers"),
        "torch_version": _adapter.installed_version("torch"),
        "router_score": first.score,
        "router_renormalized": bool(first.renormalized),
        "router_scaling": first.scaling or 1.0,
        "cuda_device": _adapter.cuda_device_of(device),
        "num_layers": num_layers,
        "layer_table": table,
        **options,
    }
    if "num_experts" not in options:
        described["num_experts"] = _adapter.most_of(
            [info.experts for info in table.values()],
            lambda: _adapter.num_experts_of(config, "give trace() num_experts"),
        )
    if "top_k" not in options:
        described["top_k"] = _adapter.most_of(
            [info.top_k for info in table.values()],
            lambda: _adapter.top_k_of(config, "give trace() top_k"),
        )
    return described


def _layer_table(
    config: Any, bindings: list[_routers.Binding], num_layers: int, options: dict[str, Any]
) -> dict[int, LayerInfo]:
    """What is known of each layer: of the router what its family's is like, and the numbers that
    its modules, else the configuration say. A number that `options` give counts for all layers."""
    router = _family(config)
    experts = _adapter.experts_by_layer(config, num_layers)
    top_k = _adapter.top_k_by_layer(config, num_layers)

    def known(option: str, said: Optional[int], of_config: list, layer: int) -> Optional[int]:
        if option in options:
            return None
        return said or (of_config[layer] if layer < num_layers else None)

    return {
        binding.layer: router._replace(
            experts=known("num_experts", binding.experts, experts, binding.layer),
            top_k=known("top_k", binding.top_k, top_k, binding.layer),
        )
        for binding in bindings
    }


def _family(config: Any) -> LayerInfo:
    """The router of a family of models that this module knows."""
    known = _ROUTERS.get(getattr(config, "model_type", ""))
    scaling = getattr(config, "routed_scaling_factor", None)
    if known is None:
        return LayerInfo(scaling=None if scaling is None else float(scaling))
    score, renormalized, biased = known
    groups = _adapter.positive(getattr(config, "n_group", None)) or 1
    return LayerInfo(
        zero_experts=0,
        score=score,
        renormalized=bool(getattr(config, "norm_topk_prob", False))
        if renormalized is None
        else renormalized,
        scaling=float(scaling or 1.0),
        biased=biased,
        groups=groups,
        topk_groups=_adapter.positive(getattr(config, "topk_group", None)) or groups,
        table=False,
    )


def _num_layers(config: Any) -> int:
    if getattr(config, "num_hidden_layers", None) is None:
        model = getattr(config, "model_type", type(config).__name__)
        raise TracingError(
            f"the number of layers of {model} is unknown: its configuration has no "
            "num_hidden_layers; give trace() num_layers"
        )
    return config.num_hidden_layers


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
