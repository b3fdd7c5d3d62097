"""moetrace.trace on small random models of transformers, in float32, with a real collector.

On a CPU, or the device of MOETRACE_CHECK_DEVICE. Every recorded row's experts are compared, as
sets, with the top-k of the router logits that the model itself returns, and its weights within
1e-5. scripts/check-transformers runs this; CTest does not, because PyTorch is large.
"""

import logging
import os
import pathlib
import sys
import unittest

import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "daemon/testing"))
import harness  # noqa: E402  (in the folder just named)
import moetrace  # noqa: E402

DEVICE = os.environ.get("MOETRACE_CHECK_DEVICE", "cpu")
END, VOCABULARY, EXPERTS, TOP_K, LAYERS = 3, 64, 8, 2, 3
SHAPE = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    intermediate_size=32,
    num_hidden_layers=LAYERS,
    num_attention_heads=4,
    num_key_value_heads=4,
    max_position_embeddings=256,
    num_experts_per_tok=TOP_K,
    bos_token_id=1,
    eos_token_id=END,
    pad_token_id=0,
)
EXPERT_SHAPE = dict(num_experts=EXPERTS, moe_intermediate_size=32)


TOLERANCE = 1e-5 if DEVICE == "cpu" else 1e-4  # a GPU's kernels depend on the batch's shape


def tensor(values):
    return torch.tensor(values, device=DEVICE)


def models():
    """Name, how weights follow from the logits (renormalised or not; None: not by a softmax), and
    the configuration."""
    for renormalized in (False, True):
        for name in ("Qwen2Moe", "Qwen3Moe", "Olmoe"):
            extra = {"shared_expert_intermediate_size": 32} if name == "Qwen2Moe" else {}
            yield (
                name,
                renormalized,
                {**SHAPE, **EXPERT_SHAPE, **extra, "norm_topk_prob": renormalized},
            )
    yield "Mixtral", True, {**SHAPE, "num_local_experts": EXPERTS}
    yield (
        "DeepseekV3",
        None,
        {
            **SHAPE,
            "n_routed_experts": EXPERTS,
            "moe_intermediate_size": 32,
            "n_group": 2,
            "topk_group": 1,
            "q_lora_rank": 16,
            "kv_lora_rank": 16,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 8,
            "first_k_dense_replace": 1,
        },
    )


def make(name, shape):
    torch.manual_seed(11)
    config = getattr(transformers, f"{name}Config")(**shape)
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval().to(DEVICE)
    with torch.no_grad():  # some routers are zeros at first: every token would tie
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
    return model


class Checks(harness.Case):
    """The shared part of the checks of eager and of compiled models."""

    figures = {}

    @classmethod
    def print_figures(cls):
        for name, (rows, error) in cls.figures.items():
            print(
                f"{name}: {rows} rows have the model's own experts; "
                f"weights differ by at most {error:.1e}"
            )

    def setUp(self):
        super().setUp()
        harness.Collector(self, "--output-dir", self.traces)
        self.options = dict(
            directory=str(self.rings),
            session=self.session,
            layers="all",
            sample_every=1,
            ring_mb=16,
        )

    def lines(self):
        lines = self.lines_of_trace()
        self.trace_files()[0].unlink()
        return lines

    def compare(self, model, renormalized, lines, tokens):
        """Compares each request's routes with one pass over its text; tokens: {request: ids}."""
        routes = {
            (r["req_id"], r["token_idx"], r["layer"]): r for r in lines if r["type"] == "route"
        }
        logged, compared, worst = lines[0]["layers_logged"], 0, 0.0
        for request, ids in tokens.items():
            with torch.no_grad():
                logits = model(tensor([ids]), output_router_logits=True).router_logits
            for layer, of_layer in zip(logged, logits):
                weights, experts = of_layer.float().softmax(-1).topk(TOP_K, -1)
                if renormalized:
                    weights = weights / weights.sum(-1, keepdim=True)
                for position in range(len(ids)):
                    route = routes.pop((request, position, layer))
                    got = dict(zip(route["topk_ids"], route["topk_weights"]))
                    expected = dict(zip(experts[position].tolist(), weights[position].tolist()))
                    self.assertEqual(set(got), set(expected), (request, position, layer))
                    worst = max([worst, *(abs(got[e] - expected[e]) for e in got)])
                    compared += 1
        self.assertFalse(routes, "rows of no token")
        self.assertLess(worst, TOLERANCE)
        name = type(model).__name__
        rows, before = self.figures.get(name, (0, 0.0))
        self.figures[name] = (rows + compared, max(before, worst))

    def generate(self, model, **more):
        torch.manual_seed(5)
        prompts = [[5, 6, 7, 8, 9, 10, 11], [12, 13, 14], [20]]
        longest = max(map(len, prompts))
        ids = tensor([[0] * (longest - len(p)) + p for p in prompts])
        mask = tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
        with moetrace.trace(model, requests=["first"], **self.options):
            out = model.generate(ids, attention_mask=mask, max_new_tokens=24, **more)
        return prompts, out[:, longest:].tolist()

    def compare_generated(self, model, renormalized, prompts, new):
        """Compares the trace with what `generate` returned: requests, counts, and each row."""
        lines = self.lines()
        new = [n[: n.index(END) + 1] if END in n else n for n in new]
        names = ["first", "r0", "r1"]
        self.assertEqual(
            [(r["req_id"], r["prompt_tokens"]) for r in lines if r["type"] == "request"],
            list(zip(names, map(len, prompts))),
        )
        self.assertEqual(
            [
                (r["req_id"], r["generated_tokens"], r["status"])
                for r in lines
                if r["type"] == "request_end"
            ],
            [(i, len(n), "stop" if END in n else "length") for i, n in zip(names, new)],
        )
        rows = sum(len(p) + len(n) - 1 for p, n in zip(prompts, new))
        logged = lines[0]["layers_logged"]
        self.assertEqual(lines[-1]["delivered"], rows * len(logged))
        self.assertEqual(lines[-1]["attempted"], rows * len(logged))
        if renormalized is None:
            self.assertEqual(logged, [1, 2])  # the first layer is dense
            return
        self.assertEqual(lines[0]["router"]["renormalized"], renormalized)
        # A pass over the whole text gives what the passes of generate() gave, up to rounding.
        self.compare(
            model, renormalized, lines, {i: p + n[:-1] for i, p, n in zip(names, prompts, new)}
        )


class Eager(Checks):
    def test_generate_with_padding(self):
        for name, renormalized, shape in models():
            with self.subTest(name, renormalized=renormalized):
                model = make(name, shape)
                self.compare_generated(model, renormalized, *self.generate(model, do_sample=True))

    def test_generate_without_padding(self):
        """generate() gives the model no mask, and feeds padding to sequences that have ended."""
        model = make("Mixtral", {**SHAPE, "num_local_experts": EXPERTS})
        prompts = [[5 + n, 6, 7] for n in range(8)]
        torch.manual_seed(5)
        with moetrace.trace(model, **self.options):
            out = model.generate(
                tensor(prompts),
                attention_mask=torch.ones(8, 3, dtype=torch.int64, device=DEVICE),
                max_new_tokens=40,
                do_sample=True,
            )
        new = [n[: n.index(END) + 1] if END in n else n for n in out[:, 3:].tolist()]
        self.assertGreater(len(set(map(len, new))), 1, "no sequence ended before another")
        self.compare(
            model, True, self.lines(), {f"r{n}": prompts[n] + new[n][:-1] for n in range(8)}
        )

    def test_a_model_in_double_precision_goes_on_unrecorded(self):
        model = make(
            "Qwen2Moe", {**SHAPE, **EXPERT_SHAPE, "shared_expert_intermediate_size": 32}
        ).double()
        if hasattr(
            model, "set_experts_implementation"
        ):  # the grouped kernel of transformers 5 lacks double precision
            model.set_experts_implementation("eager")
        with (
            self.assertLogs("moetrace", logging.WARNING) as logs,
            moetrace.trace(model, **self.options),
            torch.no_grad(),
        ):
            model(tensor([[5, 6]]))
        self.assertIn("layer 0 is not recorded: record: weights has dtype float64", logs.output[0])
        self.lines()

    def test_two_traces_of_one_model(self):
        model = make("Mixtral", {**SHAPE, "num_local_experts": EXPERTS})
        with moetrace.trace(model, **self.options), moetrace.trace(model, **self.options):
            model.generate(tensor([[5, 6]]), max_new_tokens=4, do_sample=False)
        self.assertNotIn("generate", vars(model))
        self.wait_drained()
        delivered = [self.check(path).delivered for path in self.trace_files()]
        self.assertEqual(len(delivered), 2)
        self.assertEqual(*delivered)

    def test_experts_as_the_router_said(self):
        """DeepSeek chooses by corrected, grouped scores: compared with what its router returns."""
        model = make("DeepseekV3", list(models())[-1][2])
        returned = []
        for layer in model.model.layers[1:]:
            layer.mlp.gate.register_forward_hook(
                lambda _m, _a, out: returned.append([t for t in out if t.shape[-1] == TOP_K])
            )
        with moetrace.trace(model, **self.options), torch.no_grad():
            model(tensor([[5, 6, 7, 8]]))
        lines = self.lines()
        got = [(r["topk_ids"], r["topk_weights"]) for r in lines if r["type"] == "route"]
        expected = []
        for tensors in returned:
            ids, weights = sorted(tensors, key=lambda t: t.is_floating_point())
            expected += list(zip(ids.tolist(), weights.tolist()))
        self.assertEqual([i for i, _ in got], [i for i, _ in expected])
        torch.testing.assert_close(tensor([w for _, w in got]), tensor([w for _, w in expected]))
        self.assertEqual(lines[0]["router"]["score"], "sigmoid")

    def test_plain_calls_and_right_padding(self):
        model = make("Mixtral", {**SHAPE, "num_local_experts": EXPERTS})
        ids = tensor([[5, 6, 7, 8], [9, 10, 0, 0]])
        mask = tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
        with moetrace.trace(model, **self.options), torch.no_grad():
            model(ids, attention_mask=mask)
            model(ids[:1])
            model.model(ids)  # not through the model: not announced
        lines = self.lines()
        self.compare(model, True, lines, {"r0": [5, 6, 7, 8], "r1": [9, 10], "r2": [5, 6, 7, 8]})
        self.assertEqual(
            [r["status"] for r in lines if r["type"] == "request_end"], ["forward"] * 3
        )

    def test_a_pass_that_fails_is_torn(self):
        model = make("Mixtral", {**SHAPE, "num_local_experts": EXPERTS})
        last = model.model.layers[-1].register_forward_pre_hook(lambda *_: 1 / 0)
        with moetrace.trace(model, **self.options), torch.no_grad():
            with self.assertRaises(ZeroDivisionError):
                model(tensor([[5, 6]]))
            last.remove()
            model(tensor([[5, 6]]))
        end = self.lines()[-1]
        self.assertEqual((end["delivered"], end["torn"]), (2 * (LAYERS - 1) + 2 * LAYERS, 2))

    def test_the_model_is_left_as_it_was(self):
        model = make("Mixtral", {**SHAPE, "num_local_experts": EXPERTS})
        before = model.generate(tensor([[5, 6]]), max_new_tokens=8, do_sample=False)
        with moetrace.trace(model, **self.options):
            during = model.generate(tensor([[5, 6]]), max_new_tokens=8, do_sample=False)
        self.lines()
        self.assertTrue(torch.equal(before, during))
        self.assertNotIn("generate", vars(model))
        self.assertFalse(any(m._forward_hooks or m._forward_pre_hooks for m in model.modules()))

    def test_beams_are_refused_with_a_line(self):
        model = make("Mixtral", {**SHAPE, "num_local_experts": EXPERTS})
        with (
            self.assertLogs("moetrace", logging.WARNING) as logs,
            moetrace.trace(model, **self.options),
        ):
            model.generate(tensor([[5, 6]]), max_new_tokens=4, num_beams=2, do_sample=False)
        self.assertIn("beam search", logs.output[0])
        self.assertEqual(self.lines()[-1]["attempted"], 0)

    def test_no_moe_is_one_line(self):
        with self.assertRaisesRegex(
            moetrace.TracingError, "^trace: Linear has no layer whose router can be found; "
        ):
            moetrace.trace(torch.nn.Linear(2, 2))
        layers = make("Mixtral", {**SHAPE, "num_local_experts": EXPERTS}).model
        del layers.config
        with self.assertRaisesRegex(
            moetrace.TracingError, "^trace: MixtralModel has no configuration, as "
        ):
            moetrace.trace(layers)


if __name__ == "__main__":
    torch.set_num_threads(2)
    result = unittest.main(verbosity=2, exit=False).result
    Checks.print_figures()
    sys.exit(not result.wasSuccessful())
