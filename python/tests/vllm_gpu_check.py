"""Unmodified vLLM on a GPU: every row's experts are those of vLLM's own capture, in the same run.

With CUDA graphs and the shape of Qwen1.5-MoE-A2.7B, random weights, bfloat16. The environment needs
vLLM and the moetrace package; MOETRACED and MOETRACE_CLI name the programs. Without a GPU a small
model is used, which tests this test.
"""

import collections
import concurrent.futures
import os
import pathlib
import struct
import sys
import unittest

import torch
from vllm_case import MODELS, VllmCase, model_folder

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "benchmarks"))
import vllm_shapes  # noqa: E402  (in the folder just named)

V1, V2 = {"VLLM_USE_V2_MODEL_RUNNER": "0"}, {"VLLM_USE_V2_MODEL_RUNNER": "1"}


class VllmOnGpu(VllmCase):
    figures = collections.Counter()

    def model(self):
        if not torch.cuda.is_available():
            return model_folder("Qwen2Moe")
        return vllm_shapes.write("qwen1.5-moe", MODELS / "full-shape")

    def run_traced(self, workload, **environment):
        if not self.collectors:
            self.collect()
        answers, log = self.run_vllm(workload, model=self.model(), **environment)
        self.assertNotIn("recorded in line", log)  # these layers have tensors of their own
        *_, lines = self.lines()
        end = lines[-1]
        self.assertEqual((end["status"], end["dropped"], end["torn"]), ("closed", 0, 0))
        self.figures["rows"] += end["delivered"]
        return lines, answers[workload]

    def rows_of(self, lines):
        """{request: {layer: {position: route line}}}; a position that comes twice fails."""
        rows = collections.defaultdict(lambda: collections.defaultdict(dict))
        for line in lines:
            if line["type"] == "route":
                of_layer = rows[line["req_id"]][line["layer"]]
                self.assertNotIn(line["token_idx"], of_layer)
                of_layer[line["token_idx"]] = line
        return rows

    def check_rows(self, lines, answers):
        """Each position of each request is once in each layer; ids and weights fit a softmax."""
        rows = self.rows_of(lines)
        self.assertEqual(set(rows), {answer["id"] for answer in answers})
        for answer in answers:
            count = len(answer["prompt"]) + len(answer["tokens"]) - 1
            self.assertEqual(set(rows[answer["id"]]), set(lines[0]["layers_logged"]))
            for of_layer in rows[answer["id"]].values():
                self.assertEqual(sorted(of_layer), list(range(count)))
                for line in of_layer.values():
                    self.assertEqual(len(set(line["topk_ids"])), lines[0]["top_k"])
                    self.assertTrue(all(0 < weight <= 1 for weight in line["topk_weights"]))
        return rows

    @unittest.skipUnless(
        torch.cuda.is_available(), "vLLM's own capture needs a GPU, or gives zeros"
    )
    def test_ids_of_vllms_own_capture(self):
        self.check_captured(*self.run_traced("captured"))  # vLLM chooses the runner that can

    @unittest.skipUnless(torch.cuda.device_count() > 1, "needs two GPUs")
    def test_tensor_parallel(self):
        """Two ranks see the same rows: one trace, of rank 0."""
        lines, answers = self.run_traced(
            "captured_by_two", processes=True, VLLM_ALLREDUCE_USE_SYMM_MEM="0", NCCL_NVLS_ENABLE="0"
        )
        self.assertEqual((lines[0]["world_size"], lines[0]["ranks"]["tp"]), (2, 0))
        self.check_captured(lines, answers)

    @unittest.skipUnless(torch.cuda.device_count() > 1, "needs two GPUs")
    def test_data_parallel(self):
        """Each rank has a trace of its own requests; the other rank's have the same names."""
        self.collect()
        port = 29_000 + 2 * (
            os.getpid() % 1_000
        )  # vLLM uses the next one, too; below the ephemeral ports
        together = dict(
            VLLM_DP_SIZE="2", VLLM_DP_MASTER_IP="127.0.0.1", VLLM_DP_MASTER_PORT=str(port)
        )
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            ranks = [
                pool.submit(
                    self.run_vllm,
                    "graphs",
                    model=self.model(),
                    processes=True,
                    VLLM_DP_RANK=rank,
                    VLLM_DP_RANK_LOCAL=rank,
                    **together,
                )
                for rank in ("0", "1")
            ]
        traces = sorted(self.lines(), key=lambda lines: lines[0]["ranks"]["dp"])
        self.assertEqual(
            [(lines[0]["ranks"]["dp"], lines[0]["world_size"]) for lines in traces],
            [(0, 2), (1, 2)],
        )
        for lines, rank in zip(traces, ranks):
            answers, _ = rank.result()
            self.check_rows(lines, answers["graphs"])
            self.figures["rows"] += lines[-1]["delivered"]

    def check_captured(self, lines, answers):
        rows = self.check_rows(lines, answers)
        for answer in answers:
            for layer, of_layer in rows[answer["id"]].items():
                for position, line in of_layer.items():
                    self.assertEqual(line["topk_ids"], answer["routed"][position][layer])

    def test_graphs_of_both_runners(self):
        for runner in (V1, V2) if torch.cuda.is_available() else (V1,):
            with self.subTest(runner):
                lines, answers = self.run_traced("graphs", processes=True, **runner)
                self.check_rows(lines, answers)

    @unittest.skipUnless(
        torch.cuda.is_available(), "on a CPU the kernel routes, and no Python sees it"
    )
    def test_every_bit_as_a_hook_in_python_sees_it(self):
        for runner in (V1, V2):
            with self.subTest(runner):
                lines, (*answers, extra) = self.run_traced("watched", **runner)
                self.check_rows(lines, answers)
                for layer in lines[0]["layers_logged"]:
                    routes = [
                        line for line in lines if line["type"] == "route" and line["layer"] == layer
                    ]
                    ids, weights = extra["seen"][str(layer)]
                    self.assertEqual([line["topk_ids"] for line in routes], ids)
                    self.assertEqual([as_float32(line["topk_weights"]) for line in routes], weights)

    @classmethod
    def tearDownClass(cls):
        device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "a CPU"
        print(f"{cls.figures['rows']:,} rows on {device}", file=sys.stderr)


def as_float32(weights):
    return [struct.unpack("f", struct.pack("f", weight))[0] for weight in weights]


if __name__ == "__main__":
    unittest.main(verbosity=2)
