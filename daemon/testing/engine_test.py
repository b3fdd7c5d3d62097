"""The whole path with a real model: engine, ring, collector, file.

Every token of every request has its row in every layer."""

import collections
import json
import os
import subprocess
import unittest

from harness import HERE, MOETRACE, Case

ENGINE = os.environ.get("MOETRACE_ENGINE", "moetrace-engine")
DEMO_PROMPTS = HERE.parents[1] / "scripts/demo-prompts.txt"
OWN_PROMPTS = [
    "A",
    "Two words",
    "Digits 0123456789\tand a tab\nand a line",
    "日本語 and emoji 🙂🙂",
    "x" * 70,
]
LAYERS = 24


class EngineTest(Case):
    def setUp(self):
        super().setUp()
        self.model = self.folder / "model"
        self.prompts = self.folder / "prompts.txt"
        self.engine("init-model", "--seed", "1234", self.model)

    def engine(self, *arguments):
        subprocess.run(
            [ENGINE, *map(str, arguments)], check=True, env=self.env, stdout=subprocess.DEVNULL
        )

    def write_own_prompts(self):
        self.prompts.write_text("\n\n---\n\n".join(OWN_PROMPTS))

    def generate(self, output, new_tokens, traced=None, *options, **env):
        """`traced`: run it under `moetrace run` into that file."""
        command = [
            ENGINE,
            "generate",
            "--model",
            self.model,
            "--prompts",
            self.prompts,
            "--max-new-tokens",
            new_tokens,
            "--seed",
            "1234",
            "--output",
            output,
            *options,
        ]
        if traced:
            command = [MOETRACE, "run", "-o", traced, "--publish", "none", "--", *command]
        result = subprocess.run(
            list(map(str, command)), env={**self.env, **env}, capture_output=True, text=True
        )
        self.assertEqual(result.returncode, 0, result.stderr)
        return [json.loads(line) for line in output.read_text().splitlines()]

    def routes_of(self, trace):
        """{(req_id, layer): positions in the order of the file}"""
        positions = collections.defaultdict(list)
        with trace.open() as lines:
            for line in lines:
                if line.startswith('{"type":"route"'):
                    route = json.loads(line)
                    positions[route["req_id"], route["layer"]].append(route["token_idx"])
        return positions

    def check_rows(self, trace, requests, layers):
        self.check(trace, contiguous=True)
        positions = self.routes_of(trace)
        self.assertEqual(
            set(positions), {(request["req_id"], layer) for request in requests for layer in layers}
        )
        for request in requests:
            rows = request["prompt_tokens"] + request["generated_tokens"] - 1
            for layer in layers:
                self.assertEqual(
                    positions[request["req_id"], layer],
                    list(range(rows)),
                    (request["req_id"], layer),
                )

    def test_every_token_has_its_rows_and_the_text_stays_the_same(self):
        self.prompts.write_text(DEMO_PROMPTS.read_text())
        count, new_tokens = 25, 128
        trace = self.folder / "routes.jsonl"
        traced = self.generate(self.folder / "traced.jsonl", new_tokens, trace)
        plain = self.generate(self.folder / "plain.jsonl", new_tokens)
        self.assertEqual(traced, plain)
        self.assertEqual([request["req_id"] for request in traced], [f"r{n}" for n in range(count)])
        self.check_rows(trace, traced, range(LAYERS))
        self.assertFalse(self.segment_files())

    def test_selected_layers_in_small_batches(self):
        self.write_own_prompts()
        trace = self.folder / "routes.jsonl"
        traced = self.generate(
            self.folder / "traced.jsonl", 5, trace, "--batch", "2", MOETRACE_LAYERS="0,5-7"
        )
        self.check_rows(trace, traced, (0, 5, 6, 7))
        meta = json.loads(trace.read_text().split("\n", 1)[0])
        self.assertEqual(meta["layers_logged"], [0, 5, 6, 7])
        self.assertEqual((meta["num_experts"], meta["top_k"], meta["num_layers"]), (60, 4, LAYERS))

    def test_sampled_passes(self):
        self.write_own_prompts()
        trace = self.folder / "routes.jsonl"
        self.generate(self.folder / "traced.jsonl", 9, trace, MOETRACE_SAMPLE="4")
        self.check(trace)
        lines = trace.read_text().splitlines()
        steps = [json.loads(line) for line in lines if line.startswith('{"type":"step"')]
        self.assertGreater(len(steps), 8)
        for step in steps:
            self.assertEqual(step["layers"], LAYERS if step["step"] % 4 == 0 else 0)


if __name__ == "__main__":
    unittest.main()
