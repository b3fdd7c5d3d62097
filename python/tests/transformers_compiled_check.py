"""moetrace.trace on compiled models, as transformers_check.py on eager ones.

scripts/check-transformers runs this.
"""

import logging
import sys
import unittest

import moetrace
import torch
import transformers
from moetrace.recording import _torch_op
from torch._dynamo.backends.debugging import aot_eager
from torch._dynamo.utils import counters
from transformers_check import (
    DEVICE,
    EXPERT_SHAPE,
    EXPERTS,
    LAYERS,
    SHAPE,
    TOLERANCE,
    Checks,
    make,
    models,
    tensor,
)

MIXTRAL = ("Mixtral", {**SHAPE, "num_local_experts": EXPERTS})
PROMPT = tensor([[5, 6, 7, 8]])


def families():
    """Families whose weights follow from the logits, once each. The whole compiler takes long, so
    that only two go through it; the others go through all but its last stage."""
    for name, renormalized, shape in models():
        if renormalized:
            yield (
                name,
                renormalized,
                shape,
                "inductor" if name in ("Qwen2Moe", "Mixtral") else "aot_eager",
            )


def compiled_forward(model, **how):
    model.forward = torch.compile(model.forward, **how)
    return model


def compiled_in_place(model, **how):
    model.compile(**how)
    return model


WAYS = {
    "torch.compile(model)": torch.compile,
    "model.compile()": compiled_in_place,
    "model.forward": compiled_forward,
}


class Compiled(Checks):
    def setUp(self):
        super().setUp()
        torch.compiler.reset()
        counters.clear()

    def assert_compiled(self):
        """Graphs were made of the model, without a graph break."""
        self.assertGreater(counters["stats"]["unique_graphs"], 0)
        self.assertFalse(counters["graph_break"])
        self.assertEqual(counters["inductor"]["cudagraph_skips"], 0)

    def test_static_cache_of_generate(self):
        """generate() compiles the decode pass, its default on a GPU; the batch has left padding."""
        for name, renormalized, shape, backend in families():
            with self.subTest(name, backend=backend):
                torch.compiler.reset()
                model = make(name, shape)
                graphs = "reduce-overhead" if DEVICE != "cpu" and backend == "inductor" else None
                how = transformers.CompileConfig(fullgraph=True, mode=graphs, backend=backend)
                how._compile_all_devices = True
                prompts, new = self.generate(
                    model, do_sample=True, cache_implementation="static", compile_config=how
                )
                self.assert_compiled()
                self.compare_generated(model, renormalized, prompts, new)

    @unittest.skipIf(DEVICE == "cpu", "CUDA graphs need a GPU")
    def test_cuda_graphs(self):
        """Passes are captured, and replayed with another padding, announced each time. Warm-up and
        capture leave no row."""
        model = make(*MIXTRAL)
        model.set_experts_implementation("batched_mm")  # float32's default asks the host for sizes
        ids = tensor([[5, 6, 7, 8], [9, 10, 0, 0]])
        padded, calls = tensor([[1, 1, 1, 1], [1, 1, 0, 0]]), []
        trace = moetrace.trace(model, **self.options)
        with trace, torch.no_grad():
            _torch_op.bind(
                trace._key,
                lambda layer, *routes: (calls.append(layer), trace._routed(layer, *routes)),
            )
            compiled = torch.compile(model, fullgraph=True, mode="reduce-overhead")
            for _ in range(8):
                compiled(ids, attention_mask=padded, use_cache=False)
            compiled(ids, attention_mask=tensor([[1, 1, 1, 0], [1, 1, 0, 0]]), use_cache=False)
        self.assert_compiled()
        self.assertEqual(set(trace._real_rows._captured), {ids.numel()})
        self.assertEqual(
            calls, 2 * list(range(LAYERS))
        )  # a warm-up and the capture; the other passes are replays
        texts = [[5, 6, 7, 8], [9, 10]] * 8 + [[5, 6, 7], [9, 10]]
        self.compare(
            make(*MIXTRAL), True, self.lines(), {f"r{n}": text for n, text in enumerate(texts)}
        )

    def test_generate_through_a_compiled_forward(self):
        """Every pass is compiled, also those of the prompts; shapes change from pass to pass."""
        for name, renormalized, shape, backend in families():
            with self.subTest(name, backend=backend):
                torch.compiler.reset()
                model = make(name, shape)
                model.forward = torch.compile(model.forward, dynamic=True, backend=backend)
                prompts, new = self.generate(model, do_sample=True)
                self.assert_compiled()
                del model.forward
                self.compare_generated(model, renormalized, prompts, new)

    def test_however_and_whenever_compiled(self):
        in_graphs = []  # calls of the operator in each graph

        def backend(graph, inputs):
            calls = sum(node.target is _torch_op.record for node in graph.graph.nodes)
            in_graphs.append(calls)
            return aot_eager(graph, inputs)

        for name, compile_model in WAYS.items():
            for warm in (False, True):  # compiled, and run, before tracing begins
                with self.subTest(name, warm=warm), torch.no_grad():
                    torch.compiler.reset()
                    in_graphs.clear()
                    model = make(*MIXTRAL)
                    expected = model(PROMPT).logits
                    how = dict(fullgraph=True, backend=backend)
                    if warm:
                        compiled = compile_model(model, **how)
                        compiled(PROMPT)
                        self.assertEqual(in_graphs, [0])
                        in_graphs.clear()
                    with moetrace.trace(compiled if warm else model, **self.options):
                        if not warm:
                            compiled = compile_model(model, **how)
                        for _ in range(2):
                            torch.testing.assert_close(
                                compiled(PROMPT).logits, expected, rtol=TOLERANCE, atol=TOLERANCE
                            )
                        compiled(PROMPT[:, :2], attention_mask=tensor([[1, 0]]))
                    self.assertEqual(set(in_graphs), {LAYERS})
                    in_graphs.clear()
                    torch.testing.assert_close(
                        compiled(PROMPT).logits, expected, rtol=TOLERANCE, atol=TOLERANCE
                    )
                    self.assertEqual(in_graphs, [0])
                    self.assert_compiled()
                    lines = self.lines()
                    self.assertEqual(lines[-1]["attempted"], 9 * LAYERS)
                    self.compare(
                        make(*MIXTRAL),
                        True,
                        lines,
                        {"r0": PROMPT[0].tolist(), "r1": PROMPT[0].tolist(), "r2": [5]},
                    )

    def test_layers_compiled_one_by_one(self):
        model = make(*MIXTRAL)
        for layer in model.model.layers:
            layer.compile(backend="aot_eager", fullgraph=True)
        with moetrace.trace(model, **self.options), torch.no_grad():
            model(PROMPT)
            model(PROMPT)
        self.assert_compiled()
        self.compare(
            make(*MIXTRAL), True, self.lines(), {"r0": PROMPT[0].tolist(), "r1": PROMPT[0].tolist()}
        )

    def test_a_compiled_function_around_the_model(self):
        model = make(*MIXTRAL)
        with moetrace.trace(model, **self.options), torch.no_grad():
            around = torch.compile(lambda ids: model(ids).logits.argmax(-1), backend="aot_eager")
            around(PROMPT)
            around(PROMPT)
        self.compare(
            model, True, self.lines(), {"r0": PROMPT[0].tolist(), "r1": PROMPT[0].tolist()}
        )

    def test_training(self):
        """Gradients of a compiled model are those without tracing."""
        gradients = []
        for traced in (False, True):
            torch.compiler.reset()
            model = make(
                "Qwen2Moe", {**SHAPE, **EXPERT_SHAPE, "shared_expert_intermediate_size": 32}
            )
            compiled = torch.compile(model, backend="aot_eager")
            with moetrace.trace(model, enabled=traced, **self.options):
                compiled(PROMPT, labels=PROMPT).loss.backward()
            gradients.append([parameter.grad for parameter in model.parameters()])
        torch.testing.assert_close(*gradients, rtol=TOLERANCE, atol=TOLERANCE)
        self.assertEqual(self.lines()[-1]["delivered"], 4 * LAYERS)

    def test_a_mask_that_does_not_tell_the_padding_is_refused(self):
        model = make(*MIXTRAL)
        mask = torch.ones(1, 1, 4, 4, dtype=torch.bool, device=DEVICE).tril()
        with (
            self.assertLogs("moetrace", logging.WARNING) as logs,
            moetrace.trace(model, **self.options),
            torch.no_grad(),
        ):
            model(PROMPT, attention_mask=mask)
        self.assertIn(
            "a pass is not recorded: its attention_mask does not say which rows are padding",
            logs.output[0],
        )
        self.assertEqual(self.lines()[-1]["attempted"], 0)


if __name__ == "__main__":
    torch.set_num_threads(2)
    result = unittest.main(verbosity=2, exit=False).result
    Checks.print_figures()
    sys.exit(not result.wasSuccessful())
