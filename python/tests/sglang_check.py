"""The SGLang plugin in a real engine of SGLang, with a real collector and a small random Qwen3-MoE.

On a CPU, or the device of MOETRACE_CHECK_DEVICE. On a CPU every recorded row's experts are
compared, as sets, with the top-k of the router logits that transformers computes for the same text;
on a GPU, with CUDA graphs, in bfloat16, with SGLang's own capture.

The environment needs SGLang, transformers and moetrace as an installed package, because SGLang
finds the plugin by its entry point. On a CPU SGLang 0.5.23 also imports
vllm._custom_ops.rotary_embedding, and this check never calls it: install vLLM, or an empty function
of this name.
"""

import base64
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import numpy as np
import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "daemon/testing"))
import harness  # noqa: E402  (in the folder just named)

DEVICE = os.environ.get("MOETRACE_CHECK_DEVICE", "cpu")
ON_A_CPU = unittest.skipUnless(DEVICE == "cpu", "the precision differs from that of transformers")
TWO_CORES = unittest.skipUnless((os.cpu_count() or 1) > 1, "SGLang wants a core for each rank")
ON_A_GPU = unittest.skipUnless(DEVICE == "cuda", "for a GPU")
EXPERTS, TOP_K, LAYERS, NEW_TOKENS = 8, 2, 3, 8
HEAD = 16 if DEVICE == "cpu" else 64  # the smallest of the usual GPU kernels
PROMPTS = [[5, 6, 7, 8, 9, 10, 11, 12, 13, 14], [20, 21, 22], [5, 6, 7, 8, 9, 10, 30]]
# Graphs of 1, 2, 4 and 8 requests, and of prefills, in pieces between attention layers. Each run
# has padded batches of both.
OPTIONS = {
    "cpu": dict(device="cpu", dtype="float32", attention_backend="torch_native"),
    "cuda": dict(
        dtype="bfloat16",
        attention_backend="triton",
        moe_runner_backend="triton",
        cuda_graph_bs_decode=[1, 2, 4, 8],
        cuda_graph_bs_prefill=[4, 8, 16, 32],
        max_running_requests=8,
        mem_fraction_static=0.3,
        log_level="info",
        decode_log_interval=1,
    ),
}[DEVICE]
ENGINE = (
    """
import json, sys
if __name__ == "__main__":
    import sglang
    model, prompts, options = json.loads(sys.argv[1])
    engine = sglang.Engine(
        model_path=model, skip_tokenizer_init=True, sampling_backend="pytorch",
        max_total_tokens=2048, context_length=256, **options)
    captured = options.get("enable_return_routed_experts", False)
    sampling = {"max_new_tokens": %d, "temperature": 0, "ignore_eos": True}
    answers = []
    for batch in prompts:
        for answer in engine.generate(
                input_ids=batch, sampling_params=sampling, return_routed_experts=captured):
            meta = answer["meta_info"]
            routed = [meta["routed_experts"]] if captured else []
            answers.append([meta["id"], answer["output_ids"], meta["cached_tokens"], *routed])
    print("ANSWERS", json.dumps(answers))
    engine.shutdown()
"""
    % NEW_TOKENS
)


class Sglang(harness.Case):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory(prefix="moetrace-test.")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        torch.manual_seed(1)
        config = transformers.Qwen3MoeConfig(
            vocab_size=256,
            hidden_size=64,
            intermediate_size=64,
            moe_intermediate_size=32,
            head_dim=HEAD,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
            num_key_value_heads=4,
            num_experts=EXPERTS,
            num_experts_per_tok=TOP_K,
            norm_topk_prob=True,
            max_position_embeddings=512,
            eos_token_id=255,
            architectures=["Qwen3MoeForCausalLM"],
        )
        self.model = transformers.Qwen3MoeForCausalLM(config).eval()
        with torch.no_grad():
            for parameter in self.model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 0.3)
        self.model.save_pretrained(self.folder / "model")

    def run_engine(self, batches, options, environment):
        """The engine's answers and printed lines. An answer is (request id, new tokens, cached
        tokens), then SGLang's own experts if the options ask for them."""
        program = self.folder / "engine.py"
        program.write_text(ENGINE)
        ran = subprocess.run(
            [
                sys.executable,
                str(program),
                json.dumps([str(self.folder / "model"), batches, {**OPTIONS, **options}]),
            ],
            env={
                **os.environ,
                "MOETRACE_DIR": str(self.rings),
                "MOETRACE_SESSION": self.session,
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=600,
        )
        answers = [line for line in ran.stdout.splitlines() if line.startswith("ANSWERS ")]
        self.assertTrue(answers, ran.stdout + ran.stderr)
        return json.loads(answers[0].removeprefix("ANSWERS ")), (
            ran.stdout + ran.stderr
        ).splitlines()

    def serve(self, batches, traced="1", environment=None, **options):
        answers, printed = self.run_engine(
            batches, options, {"MOETRACE": traced, **(environment or {})}
        )
        self.assertEqual(
            [line for line in printed if "moetrace:" in line and "moetrace: tracing " not in line],
            [],
        )
        if DEVICE == "cuda" and not options.get("disable_cuda_graph"):
            for kind in ("Prefill batch", "Decode batch"):
                self.assertTrue(
                    [line for line in printed if kind in line and "cuda graph: True" in line],
                    f"no graph: {kind}",
                )
        return answers

    def lines_and_routes(self):
        lines = self.lines_of_trace()
        routes = {
            (r["req_id"], r["token_idx"], r["layer"]): r for r in lines if r["type"] == "route"
        }
        self.assertEqual(len(routes), sum(r["type"] == "route" for r in lines), "a row twice")
        return lines, routes

    def compare_captured(self, prompts, answers):
        """Compares with SGLang's capture of the same run: the same ids in the same order. SGLang
        does not capture weights."""
        lines, routes = self.lines_and_routes()
        for prompt, (name, new, cached, captured) in zip(prompts, answers):
            rows = np.frombuffer(base64.b64decode(captured), np.int32).reshape(-1, LAYERS, TOP_K)
            self.assertEqual(len(rows), len(prompt) + len(new) - 1)
            for position in range(cached, len(rows)):
                for layer in range(LAYERS):
                    route = routes.pop((name, position, layer))
                    self.assertEqual(
                        route["topk_ids"], rows[position][layer].tolist(), (name, position, layer)
                    )
                    self.assertAlmostEqual(sum(route["topk_weights"]), 1, 2)
        self.check_the_rest(lines, routes, prompts, answers)
        print(f"\n{lines[-1]['delivered']} rows as SGLang captured them")
        return lines

    def compare(self, prompts, answers):
        lines, routes = self.lines_and_routes()
        worst = 0.0
        for prompt, (name, new, cached) in zip(prompts, answers):
            text = prompt + new[:-1]
            with torch.no_grad():
                logits = self.model(torch.tensor([text]), output_router_logits=True).router_logits
            for layer, of_layer in enumerate(logits):
                weights, experts = of_layer.float().softmax(-1).topk(TOP_K, -1)
                weights = weights / weights.sum(-1, keepdim=True)
                for position in range(cached, len(text)):
                    route = routes.pop((name, position, layer))
                    got = dict(zip(route["topk_ids"], route["topk_weights"]))
                    self.assertEqual(
                        set(got), set(experts[position].tolist()), (name, position, layer)
                    )
                    worst = max(
                        [
                            worst,
                            *(
                                abs(got[e] - w)
                                for e, w in zip(
                                    experts[position].tolist(), weights[position].tolist()
                                )
                            ),
                        ]
                    )
        past_the_end = self.check_the_rest(lines, routes, prompts, answers)
        self.assertLess(worst, 1e-4)
        print(
            f"\n{lines[-1]['delivered']} rows; weights differ by at most {worst:.1e}; "
            f"{len(past_the_end)} requests with a row "
            "past their end"
        )
        return lines

    def check_the_rest(self, lines, routes, prompts, answers):
        """`routes`: those not yet compared. Returns the rows past a request's end."""
        names = {name for name, *_ in answers}
        past_the_end = {(name, position) for name, position, _ in routes}
        for name, position in past_the_end:  # overlapped scheduling: one row, of the last token
            at = [n for n, *_ in answers].index(name)
            self.assertEqual(position, len(prompts[at]) + NEW_TOKENS - 1)
        self.assertEqual({r["req_id"] for r in lines if r["type"] == "request"}, names)
        self.assertEqual(
            [(r["generated_tokens"], r["status"]) for r in lines if r["type"] == "request_end"],
            [(NEW_TOKENS, "length")] * len(answers),
        )
        begun = {
            r["req_id"]: (r["prompt_tokens"], r["cached_tokens"])
            for r in lines
            if r["type"] == "request"
        }
        self.assertEqual(
            begun,
            {
                name: (len(prompt), cached)
                for prompt, (name, _, cached, *_) in zip(prompts, answers)
            },
        )
        self.assertEqual((lines[-1]["torn"], lines[-1]["dropped"]), (0, 0))
        return past_the_end

    @ON_A_CPU
    def test_a_batch(self):
        harness.Collector(self, "--output-dir", self.traces)
        self.compare(PROMPTS, self.serve([PROMPTS], disable_radix_cache=True))

    @ON_A_CPU
    def test_chunks_and_a_cached_prefix(self):
        harness.Collector(self, "--output-dir", self.traces)
        answers = self.serve([PROMPTS[:1], PROMPTS[1:]], chunked_prefill_size=4, page_size=1)
        self.assertGreater(answers[2][2], 0, "nothing came from the cache")
        self.compare(PROMPTS, answers)

    def captured(self, **options):
        harness.Collector(self, "--output-dir", self.traces)
        batches = [
            PROMPTS[:1],
            PROMPTS[1:] + 3 * PROMPTS[1:2],
        ]  # a cached prefix; five requests, in graphs of eight
        answers = self.serve(batches, page_size=1, enable_return_routed_experts=True, **options)
        return self.compare_captured([prompt for batch in batches for prompt in batch], answers)

    @ON_A_GPU
    def test_sglangs_own_capture(self):
        self.captured()

    @ON_A_GPU
    def test_sglangs_own_capture_without_graphs(self):
        self.captured(disable_cuda_graph=True)

    @ON_A_CPU
    @TWO_CORES
    def test_two_ranks_on_a_cpu(self):
        """Both see the same rows: one trace, of the first. PyTorch must not find NCCL, or SGLang
        asks for a GPU."""
        harness.Collector(self, "--output-dir", self.traces)
        answers = self.serve(
            [PROMPTS], disable_radix_cache=True, tp_size=2, environment=self.two_on_a_cpu()
        )
        self.check_first_of_two(self.compare(PROMPTS, answers))

    @ON_A_CPU
    @TWO_CORES
    def test_a_refusal(self):
        """Each rank says one line, also where SGLang logs only errors. There is no ring, and the
        answers come."""
        answers, printed = self.run_engine(
            [PROMPTS], {"pp_size": 2}, {"MOETRACE": "1", **self.two_on_a_cpu()}
        )
        self.assertEqual([len(new) for _, new, _ in answers], len(PROMPTS) * [NEW_TOKENS])
        self.assertEqual(
            [line.partition("moetrace: ")[2] for line in printed if "moetrace: " in line],
            2
            * [
                "this process is not traced: "
                "with pipeline parallelism each rank has some of the layers"
            ],
        )
        self.assertEqual(list(self.rings.iterdir()), [])

    def two_on_a_cpu(self):
        return {
            "SGLANG_CPU_OMP_THREADS_BIND": "0|1",
            "SGLANG_NCCL_SO_PATH": str(self.folder / "none"),
        }

    @ON_A_GPU
    @unittest.skipUnless(torch.cuda.device_count() > 1, "needs two GPUs")
    def test_two_ranks(self):
        self.check_first_of_two(
            self.captured(
                tp_size=2,
                disable_custom_all_reduce=True,
                enforce_disable_flashinfer_allreduce_fusion=True,
            )
        )

    def check_first_of_two(self, lines):
        self.assertEqual((lines[0]["world_size"], lines[0]["ranks"]["tp"]), (2, 0))

    def test_off_without_the_variable(self):
        self.serve([PROMPTS[:1]], traced="0")
        self.assertEqual(list(self.rings.iterdir()), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
