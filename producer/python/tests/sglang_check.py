"""The SGLang plugin in a real engine of SGLang's, on a CPU, with a real collector: a small random Qwen3-MoE answers, and every
recorded row's experts are compared, as sets, with the top-k of the router logits that transformers computes for the same text.

For an environment that has SGLang, transformers and moetrace as a package, because SGLang finds the plugin by its entry point.
On a CPU SGLang 0.5.23 imports vllm._custom_ops.rotary_embedding, without calling it here: a stub will do.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "daemon/testing"))
import harness  # noqa: E402  (in the folder just named)

EXPERTS, TOP_K, LAYERS, NEW_TOKENS = 8, 2, 3, 8
PROMPTS = [[5, 6, 7, 8, 9, 10, 11, 12, 13, 14], [20, 21, 22], [5, 6, 7, 8, 9, 10, 30]]
ENGINE = """
import json, sys
if __name__ == "__main__":
    import sglang
    model, prompts, options = json.loads(sys.argv[1])
    engine = sglang.Engine(model_path=model, device="cpu", skip_tokenizer_init=True, dtype="float32", sampling_backend="pytorch",
                           attention_backend="torch_native", max_total_tokens=2048, context_length=256, **options)
    sampling = {"max_new_tokens": %d, "temperature": 0, "ignore_eos": True}
    answers = [answer for batch in prompts for answer in engine.generate(input_ids=batch, sampling_params=sampling)]
    print("ANSWERS", json.dumps([[a["meta_info"]["id"], a["output_ids"], a["meta_info"]["cached_tokens"]] for a in answers]))
    engine.shutdown()
""" % NEW_TOKENS


class Sglang(harness.Case):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory(prefix="moetrace-test.")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        torch.manual_seed(1)
        config = transformers.Qwen3MoeConfig(
            vocab_size=256, hidden_size=64, intermediate_size=64, moe_intermediate_size=32, head_dim=16, num_hidden_layers=LAYERS,
            num_attention_heads=4, num_key_value_heads=4, num_experts=EXPERTS, num_experts_per_tok=TOP_K, norm_topk_prob=True,
            max_position_embeddings=512, eos_token_id=255, architectures=["Qwen3MoeForCausalLM"])
        self.model = transformers.Qwen3MoeForCausalLM(config).eval()
        with torch.no_grad():
            for parameter in self.model.parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 0.3)
        self.model.save_pretrained(self.folder / "model")

    def serve(self, batches, traced="1", **options):
        """Each answer: (request id, new tokens, cached tokens), and what the engine printed."""
        program = self.folder / "engine.py"
        program.write_text(ENGINE)
        environment = {**os.environ, "MOETRACE": traced, "MOETRACE_DIR": str(self.rings), "MOETRACE_SESSION": self.session}
        ran = subprocess.run([sys.executable, str(program), json.dumps([str(self.folder / "model"), batches, options])],
                             env=environment, capture_output=True, text=True, timeout=600)
        answers = [line for line in ran.stdout.splitlines() if line.startswith("ANSWERS ")]
        self.assertTrue(answers, ran.stdout + ran.stderr)
        self.assertNotIn("moetrace:", ran.stderr)
        return json.loads(answers[0].removeprefix("ANSWERS "))

    def compare(self, prompts, answers):
        self.wait_drained()
        path, = self.trace_files()
        self.check(path)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        routes = {(r["req_id"], r["token_idx"], r["layer"]): r for r in lines if r["type"] == "route"}
        self.assertEqual(len(routes), sum(r["type"] == "route" for r in lines), "a row twice")
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
                    self.assertEqual(set(got), set(experts[position].tolist()), (name, position, layer))
                    worst = max([worst, *(abs(got[e] - w) for e, w in zip(experts[position].tolist(), weights[position].tolist()))])
        names = {name for name, *_ in answers}
        past_the_end = {(name, position) for name, position, _ in routes}
        for name, position in past_the_end:  # overlapped scheduling: one row, of the last token
            at = [n for n, *_ in answers].index(name)
            self.assertEqual(position, len(prompts[at]) + NEW_TOKENS - 1)
        self.assertLess(worst, 1e-4)
        self.assertEqual({r["req_id"] for r in lines if r["type"] == "request"}, names)
        self.assertEqual([(r["generated_tokens"], r["status"]) for r in lines if r["type"] == "request_end"],
                         [(NEW_TOKENS, "length")] * len(answers))
        begun = {r["req_id"]: (r["prompt_tokens"], r["cached_tokens"]) for r in lines if r["type"] == "request"}
        self.assertEqual(begun, {name: (len(prompt), cached) for prompt, (name, _, cached) in zip(prompts, answers)})
        self.assertEqual(lines[-1]["torn"], 0)
        print(f"\n{lines[-1]['delivered']} rows; weights differ by at most {worst:.1e}; {len(past_the_end)} requests with a row past "
              "their end")

    def test_a_batch(self):
        harness.Collector(self, "--output-dir", self.traces)
        self.compare(PROMPTS, self.serve([PROMPTS], disable_radix_cache=True))

    def test_chunks_and_a_cached_prefix(self):
        harness.Collector(self, "--output-dir", self.traces)
        answers = self.serve([PROMPTS[:1], PROMPTS[1:]], chunked_prefill_size=4, page_size=1)
        self.assertGreater(answers[2][2], 0, "nothing came from the cache")
        self.compare(PROMPTS, answers)

    def test_off_without_the_variable(self):
        self.serve([PROMPTS[:1]], traced="0")
        self.assertEqual(list(self.rings.iterdir()), [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
