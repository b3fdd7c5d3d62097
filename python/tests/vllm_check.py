"""Unmodified vLLM on a CPU, with a small random model, the installed package and a real collector.

In float32. Every recorded row's experts are compared, as sets, with those of transformers on the
same tokens, and its weights within 1e-5; the tokens with those of an untraced engine.
scripts/check-vllm runs this; CTest does not, because vLLM is large. The checks of the server and of
modes are in files of their own, and run with these.
"""

import collections
import json
import os
import subprocess
import sys
import unittest

import small_models
import torch
from vllm_case import CHILD, ENGINE_TIMEOUT_S, harness, model_folder
from vllm_modes_check import VllmModes  # noqa: F401  (unittest finds it here)
from vllm_reference_case import ReferenceCase, print_figures
from vllm_server_check import VllmServer  # noqa: F401


class Vllm(ReferenceCase):
    def rows_per_layer(self, rows, layer=0):
        return collections.Counter(row["token_idx"] for row in rows if row["layer"] == layer)

    def test_one_process(self):
        """Eager, chunked prefill, prefix cache, preemption."""
        workloads = ("plain", "chunked", "cached", "preempted")
        untraced, _ = self.run_vllm(*workloads, traced=False)
        self.collect()
        answers, _ = self.run_vllm(*workloads)
        self.assertEqual(answers, untraced)
        traces = self.lines()
        self.assertEqual(len(traces), len(workloads))
        by_name = {
            name: self.compare(lines, answers[name]) for name, lines in zip(workloads, traces)
        }
        for name in ("plain", "chunked"):
            for answer in answers[name]:
                counts = self.rows_per_layer(by_name[name][answer["id"]])
                self.assertEqual(set(counts.values()), {1})
                self.assertEqual(len(counts), len(answer["prompt"]) + len(answer["tokens"]) - 1)
        steps = collections.Counter(
            row["step"] for rows in by_name["chunked"].values() for row in rows if row["layer"] == 0
        )
        self.assertLessEqual(max(steps.values()), 32)
        self.assertTrue(all(answer["cached"] >= 64 for answer in answers["cached"][1:]))
        requests = {line["req_id"]: line for line in traces[2] if line["type"] == "request"}
        for answer in answers["cached"]:
            self.assertEqual(requests[answer["id"]]["cached_tokens"], answer["cached"])
            self.assertEqual(requests[answer["id"]]["prompt_tokens"], len(answer["prompt"]))
        twice = [
            count
            for rows in by_name["preempted"].values()
            for count in self.rows_per_layer(rows).values()
            if count > 1
        ]
        self.assertTrue(twice, "nothing was preempted")
        for name, lines in zip(workloads, traces):
            ends = {line["req_id"]: line for line in lines if line["type"] == "request_end"}
            for answer in answers[name]:
                if ends[answer["id"]]["generated_tokens"] is not None:
                    self.assertEqual(ends[answer["id"]]["generated_tokens"], len(answer["tokens"]))
        meta = traces[0][0]
        import vllm

        self.assertEqual(
            (meta["engine"], meta["engine_version"], meta["vllm_version"]),
            ("vllm", vllm.__version__, vllm.__version__),
        )
        self.assertEqual(
            (meta["model_id"], meta["seed"], meta["device"], meta["torch_version"]),
            (str(model_folder("Qwen2Moe")), 1234, "cpu", torch.__version__),
        )
        self.assertEqual(
            (meta["num_layers"], meta["num_experts"], meta["top_k"]),
            (small_models.LAYERS, small_models.EXPERTS, small_models.TOP_K),
        )
        self.assertEqual(meta["router"]["score"], "softmax")

    def test_compiled_in_three_processes(self):
        """torch.compile, then again from vLLM's cached graphs, beside untraced engines."""
        self.collect()
        first, _ = self.run_vllm("compiled", processes=True)
        untraced, _ = self.run_vllm("compiled", processes=True, traced=False)
        again, log = self.run_vllm("compiled", processes=True)
        self.assertEqual(first, untraced)
        self.assertEqual(again, first)
        traces = self.lines()
        self.assertEqual(len(traces), 2)
        for lines in traces:
            self.compare(lines, first["compiled"])

    def test_speculative_decoding(self):
        """Only rows of the target. A position whose guess was rejected has several rows; the last
        is that of the token that stayed."""
        model_folder("Qwen3Moe")
        self.collect()
        answers = {}
        for name in (
            "guessed",
            "drafted",
        ):  # vLLM 0.32 can't make a second engine in a process that has speculated
            try:
                answers |= self.run_vllm(name)[0]
            except AssertionError:
                with self.assertRaises(AssertionError):
                    self.run_vllm(name, traced=False)
                self.skipTest("this vLLM can't on a CPU, traced or not")
        for (name, answered), lines in zip(answers.items(), self.lines()):
            known = {answer["id"]: len(answer["prompt"] + answer["tokens"]) for answer in answered}
            kept, routes = {}, 0
            for line in lines:
                if line["type"] == "route":
                    routes += 1
                    if line["token_idx"] < known[line["req_id"]] - 1:
                        kept[line["req_id"], line["layer"], line["token_idx"]] = line
            self.assertGreater(routes, len(kept), f"{name}: every guess was right")
            self.compare([lines[0], *kept.values(), lines[-1]], answered)

    def test_streams_with_cancellations(self):
        """200 concurrent requests with different prompts: a row of another has other experts."""
        self.collect()
        answers, _ = self.run_vllm("streams", processes=True)
        [lines] = self.lines()
        self.compare(lines, answers["streams"])

    def test_tensor_parallel(self):
        """Two ranks see the same rows: one trace, of rank 0."""
        self.collect()
        answers, _ = self.run_vllm(
            "tensor_parallel", processes=True, VLLM_CPU_OMP_THREADS_BIND="0|1"
        )
        [lines] = self.lines()
        self.compare(lines, answers["tensor_parallel"])
        self.assertEqual((lines[0]["world_size"], lines[0]["ranks"]["tp"]), (2, 0))

    def test_other_routers(self):
        """A renormalised softmax; a sigmoid with a bias, groups and a scaling that vLLM may apply
        to the output."""
        self.collect()
        for kind, layers, score, scaling in (
            ("Qwen3Moe", (0, 1, 2, 3), "softmax", 1.0),
            ("Glm4Moe", (1, 2, 3), "sigmoid", 2.5),
        ):
            with self.subTest(kind):
                answers, _ = self.run_vllm("plain", kind=kind)
                *_, lines = self.lines()
                said = lines[0]["router"]
                self.assertEqual((said["score"], said["renormalized"]), (score, True))
                self.compare(lines, answers["plain"], kind, layers, said["scaling"] / scaling)
                if kind == "Glm4Moe":
                    self.assertEqual(
                        (said["biased"], said["groups"], said["topk_groups"]), (True, 4, 2)
                    )
                    self.assertEqual("notes" in lines[0], said["scaling"] == 1.0)

    def test_selected_layers(self):
        """vLLM's log has a line for what is recorded, and one for a layer that can't be."""
        self.collect()
        answers, log = self.run_vllm("plain", MOETRACE_LAYERS="1,2")
        [lines] = self.lines()
        self.compare(lines, answers["plain"], layers=(2,))
        said = [line for line in log.splitlines() if "moetrace: " in line]
        self.assertEqual(len(said), 2, log)
        self.assertRegex(
            said[0],
            r"^[^\n]*WARNING .* moetrace: MOETRACE_LAYERS '1,2': left out [^\n]* \(1\); "
            "the MoE layers are 0,2-3$",
        )
        self.assertRegex(
            said[1],
            rf"^[^\n]*INFO .* moetrace: tracing {model_folder('Qwen2Moe')}: "
            rf"layers 2, session {self.session}, ring \S+\.ring: [\d.]+ MiB for four of the "
            r"largest steps: holds [\d,.]+ steps of [\d,]+ tokens in 1 layer, 64 bytes a token$",
        )

    def test_variables_of_the_public_patch(self):
        """VLLM_LOG_MOE names the file, VLLM_LOG_MOE_LAYER the one layer, through `moetrace run`."""
        path, output = self.folder / "moe.jsonl", self.folder / "answers.json"
        env = self.environment(
            VLLM_LOG_MOE=str(path), VLLM_LOG_MOE_LAYER="2", VLLM_ENABLE_V1_MULTIPROCESSING="0"
        )
        subprocess.run(
            [
                harness.MOETRACE,
                "run",
                "--",
                sys.executable,
                "-B",
                CHILD,
                model_folder("Qwen2Moe"),
                output,
                "plain",
            ],
            env=env,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=ENGINE_TIMEOUT_S,
        )
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        self.compare(lines, json.loads(output.read_text())["plain"], layers=(2,))

    def test_not_asked_for(self):
        """Without MOETRACE nothing is patched, and no file remains."""
        code = (
            "import moetrace.vllm, sys; before = list(sys.meta_path); moetrace.vllm.register();"
            "assert sys.meta_path == before; assert not {'torch', 'numpy'} & set(sys.modules)"
        )
        for value in (None, "", "0"):
            env = {key: text for key, text in os.environ.items() if key != "MOETRACE"} | (
                {} if value is None else {"MOETRACE": value}
            )
            subprocess.run([sys.executable, "-B", "-c", code], env=env, check=True)
        self.run_vllm("plain", traced=False)
        self.assertEqual(list(self.rings.iterdir()), [])

    def test_no_ring_to_be_had(self):
        """The engine runs, and one line says why it is not traced."""
        untraced, _ = self.run_vllm("plain", traced=False)
        answers, log = self.run_vllm("plain", MOETRACE_DIR=str(self.folder / "nowhere"))
        self.assertEqual(answers, untraced)
        said = [line for line in log.splitlines() if "moetrace" in line and "not traced" in line]
        self.assertEqual(len(said), 1, log)
        self.assertIn("nowhere", said[0])


if __name__ == "__main__":
    result = unittest.main(exit=False, verbosity=2).result
    print_figures()
    sys.exit(not result.wasSuccessful())
